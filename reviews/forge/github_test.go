package forge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/reviews/forge"
)

// There is no GitHub to be had that a test may run or change, so these tests talk to a server of their own. It follows GitHub's documented
// REST API in what matters here: paths, JSON shapes, pages with Link headers, ETags, rate limit headers and error bodies. What it
// cannot show is that GitHub keeps to its documentation.

const (
	token  = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
	head   = "1111111111111111111111111111111111111111"
	before = "2222222222222222222222222222222222222222"
	merge  = "3333333333333333333333333333333333333333"
)

type object = map[string]any

// hub is the server. Handlers are by "METHOD path" beneath /api/v3/repos/acme/access/.
type hub struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	handlers map[string]http.HandlerFunc
	asked    []string // "METHOD path?query"
	bodies   []string
}

func newHub(t *testing.T) *hub {
	h := &hub{t: t, handlers: map[string]http.HandlerFunc{}}
	h.server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.server.Close)
	h.json("GET /user", object{"id": 900, "login": "sallyport[bot]", "type": "Bot"})
	h.json("GET pulls/7", pull(7, nil))
	h.list("GET issues/7/events")
	return h
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	path, inside := strings.CutPrefix(r.URL.Path, "/api/v3/repos/acme/access/")
	if !inside {
		path = strings.TrimPrefix(r.URL.Path, "/api/v3")
	}
	h.mu.Lock()
	h.asked = append(h.asked, r.Method+" "+path+"?"+r.URL.RawQuery)
	h.bodies = append(h.bodies, string(body))
	handler := h.handlers[r.Method+" "+path]
	h.mu.Unlock()
	if got := r.Header.Get("Authorization"); got != "Bearer "+token {
		h.t.Errorf("asked with the authorization %q", got)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if handler == nil {
		refuse(w, 404, "Not Found")
		return
	}
	handler(w, r)
}

func (h *hub) handle(route string, handler http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[route] = handler
}

func (h *hub) json(route string, v any) {
	h.handle(route, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v) })
}

// list answers in pages as GitHub does: 30 at a time unless asked for up to 100, with a Link header.
func (h *hub) list(route string, items ...object) {
	h.handle(route, func(w http.ResponseWriter, r *http.Request) { h.page(w, r, items) })
}

func (h *hub) page(w http.ResponseWriter, r *http.Request, items []object) {
	query := r.URL.Query()
	size, page := 30, 1
	if n, err := strconv.Atoi(query.Get("per_page")); err == nil {
		size = min(n, 100)
	}
	if n, err := strconv.Atoi(query.Get("page")); err == nil && n > 0 {
		page = n
	}
	from, to := min((page-1)*size, len(items)), min(page*size, len(items))
	if to < len(items) {
		link := func(n int, rel string) string {
			query.Set("page", strconv.Itoa(n))
			return fmt.Sprintf(`<%s%s?%s>; rel="%s"`, h.server.URL, r.URL.Path, query.Encode(), rel)
		}
		w.Header().Set("Link", link(page+1, "next")+", "+link((len(items)+size-1)/size, "last"))
	}
	json.NewEncoder(w).Encode(append([]object{}, items[from:to]...))
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(object{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)})
}

func (h *hub) requests(prefix string) (found []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.asked {
		if strings.HasPrefix(a, prefix) {
			found = append(found, a)
		}
	}
	return found
}

func (h *hub) sent(prefix string) (bodies []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, a := range h.asked {
		if strings.HasPrefix(a, prefix) {
			bodies = append(bodies, h.bodies[i])
		}
	}
	return bodies
}

func (h *hub) client() *forge.Client {
	h.t.Helper()
	c, err := forge.Open(forge.Options{Kind: forge.GitHub, Remote: "git@git.example.com:acme/access.git", URL: h.server.URL, Token: token})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func account(id int64) object {
	return object{"id": id, "login": fmt.Sprintf("user%d", id), "type": "User", "site_admin": false}
}

func at(minute int) string {
	return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Add(time.Duration(minute) * time.Minute).Format(time.RFC3339)
}

func pull(number int, change object) object {
	p := object{
		"number": number, "state": "open", "title": "access", "html_url": "https://git.example.com/acme/access/pull/7", "user": account(1),
		"created_at": at(0), "updated_at": at(number), "merged_at": nil, "merge_commit_sha": before,
		"head": object{"ref": "request/orders", "sha": head, "repo": object{"full_name": "acme/access"}},
		"base": object{"ref": "main", "sha": before, "repo": object{"full_name": "acme/access"}},
	}
	for k, v := range change {
		p[k] = v
	}
	return p
}

func merged(number, minute int) object {
	return pull(number, object{"state": "closed", "merged_at": at(minute), "updated_at": at(minute), "merge_commit_sha": merge})
}

func review(id, user int64, state, commit string, minute int) object {
	return object{"id": id, "user": account(user), "state": state, "commit_id": commit, "submitted_at": at(minute), "body": "", "author_association": "MEMBER"}
}

func with(o object, key string, v any) object {
	o[key] = v
	return o
}

// What counts and what does not, by the order in which it was said.
func TestGitHubReviewHistory(t *testing.T) {
	bot := object{"id": 2, "login": "helper[bot]", "type": "Bot"}
	for _, c := range []struct {
		name    string
		history []object
		want    forge.State // of account 2; "" for no word
		counts  bool
	}{
		{"nothing", nil, "", false},
		{"approved", []object{review(1, 2, "APPROVED", head, 1)}, forge.Approved, true},
		{"approved an older commit", []object{review(1, 2, "APPROVED", before, 1)}, forge.Approved, false},
		{"approved no commit", []object{with(review(1, 2, "APPROVED", "", 1), "commit_id", nil)}, forge.Approved, false},
		{"commented", []object{review(1, 2, "COMMENTED", head, 1)}, "", false},
		{"still writing", []object{with(review(1, 2, "PENDING", head, 1), "submitted_at", nil)}, "", false},
		{"approved, then commented", []object{review(1, 2, "APPROVED", head, 1), review(2, 2, "COMMENTED", head, 2)}, forge.Approved, true},
		{"approved, then refused", []object{review(1, 2, "APPROVED", head, 1), review(2, 2, "CHANGES_REQUESTED", head, 2)}, forge.ChangesRequested, false},
		{"refused, then approved", []object{review(1, 2, "CHANGES_REQUESTED", head, 1), review(2, 2, "APPROVED", head, 2)}, forge.Approved, true},
		{"dismissed", []object{review(1, 2, "DISMISSED", head, 1)}, forge.Dismissed, false},
		{"a dismissed refusal does not revive an approval", []object{review(1, 2, "APPROVED", head, 1), review(2, 2, "DISMISSED", head, 2)}, forge.Dismissed, false},
		{"a dismissed approval does not revive the one before", []object{review(1, 2, "APPROVED", before, 1), review(2, 2, "APPROVED", head, 2), review(3, 2, "DISMISSED", head, 3)}, forge.Dismissed, false},
		{"approved anew after a dismissal", []object{review(1, 2, "DISMISSED", head, 1), review(2, 2, "APPROVED", head, 2)}, forge.Approved, true},
		{"listed in another order", []object{review(2, 2, "CHANGES_REQUESTED", head, 2), review(1, 2, "APPROVED", head, 1)}, forge.ChangesRequested, false},
		{"begun earlier and sent later", []object{review(1, 2, "CHANGES_REQUESTED", head, 5), review(2, 2, "APPROVED", head, 2)}, forge.ChangesRequested, false},
		{"in one second", []object{review(1, 2, "APPROVED", head, 1), review(2, 2, "CHANGES_REQUESTED", head, 1)}, forge.ChangesRequested, false},
		{"listed twice while it was dismissed", []object{review(1, 2, "APPROVED", head, 1), review(1, 2, "DISMISSED", head, 1)}, forge.Dismissed, false},
		{"another's refusal is another's", []object{review(1, 2, "APPROVED", head, 1), review(2, 3, "CHANGES_REQUESTED", head, 2)}, forge.Approved, true},
		{"the account is gone", []object{with(review(1, 2, "APPROVED", head, 1), "user", nil)}, "", false},
		{"a renamed account is the same", []object{review(1, 2, "APPROVED", head, 1), with(review(2, 2, "CHANGES_REQUESTED", head, 2), "user", object{"id": 2, "login": "other", "type": "User"})}, forge.ChangesRequested, false},
		{"another account with that name is another", []object{review(1, 3, "APPROVED", head, 1), with(review(2, 4, "APPROVED", head, 2), "user", object{"id": 4, "login": "user2", "type": "User"})}, "", false},
		{"a bot is told to be one", []object{with(review(1, 2, "APPROVED", head, 1), "user", bot)}, forge.Approved, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t)
			h.list("GET pulls/7/reviews", c.history...)
			words, err := h.client().Reviews(t.Context(), 7)
			if err != nil {
				t.Fatal(err)
			}
			got := forge.Review{}
			for _, r := range words {
				if r.User.ID == 2 {
					got = r
				}
			}
			p, err := h.client().PullRequest(t.Context(), 7)
			if err != nil {
				t.Fatal(err)
			}
			if why := got.Approves(p, &forge.Contributors{}); got.State != c.want || (why == nil) != c.counts {
				t.Errorf("%q, %v; want %q, counts %v", got.State, why, c.want, c.counts)
			}
			if strings.Contains(c.name, "bot") != got.User.Bot {
				t.Errorf("bot: %v", got.User.Bot)
			}
		})
	}
}

func TestOwnHandsDoNotApprove(t *testing.T) {
	p := &forge.PullRequest{Head: head, Author: forge.User{ID: 1}}
	by := &forge.Contributors{Users: []forge.User{{ID: 1}, {ID: 5}}}
	for id, counts := range map[int64]bool{1: false, 2: true, 5: false, 0: false, -1: false} {
		r := forge.Review{User: forge.User{ID: id}, State: forge.Approved, Commit: head}
		if why := r.Approves(p, by); (why == nil) != counts {
			t.Errorf("account %d: %v", id, why)
		}
	}
	if (forge.Review{User: forge.User{ID: 1}, State: forge.Approved, Commit: head}).Approves(p, &forge.Contributors{}) == nil {
		t.Error("the author approves, and is in no list")
	}
	if (forge.Review{}).Approves(&forge.PullRequest{}, by) == nil {
		t.Error("an empty review approves an empty pull request")
	}
	if (forge.Review{User: forge.User{ID: 2}, State: forge.Approved, Commit: head, Stale: true}).Approves(p, by) == nil {
		t.Error("a stale review counts")
	}
}

// history is three pages: account 2 approves on the first and takes it back on the last.
func history() []object {
	all := []object{review(1, 2, "APPROVED", head, 1)}
	for i := range 210 {
		all = append(all, review(int64(i+2), int64(i+100), "COMMENTED", head, i+2))
	}
	return append(all, review(900, 2, "CHANGES_REQUESTED", head, 900))
}

func TestGitHubPages(t *testing.T) {
	h := newHub(t)
	h.list("GET pulls/7/reviews", history()...)
	words, err := h.client().Reviews(t.Context(), 7)
	if err != nil || len(words) != 1 || words[0].State != forge.ChangesRequested {
		t.Errorf("%+v, %v", words, err)
	}
	if n := len(h.requests("GET pulls/7/reviews")); n != 3 {
		t.Errorf("%d requests for 212 reviews", n)
	}
}

// A page that does not come whole makes the whole call fail: what was on it may be the withdrawal.
func TestGitHubBrokenPage(t *testing.T) {
	good := func(items []object) string {
		text, err := json.Marshal(items)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	second := good(history()[100:200])
	for name, answer := range map[string]func(w http.ResponseWriter){
		"an error of the server":  func(w http.ResponseWriter) { refuse(w, 500, "Server Error") },
		"not found":               func(w http.ResponseWriter) { refuse(w, 404, "Not Found") },
		"empty":                   func(w http.ResponseWriter) {},
		"null":                    func(w http.ResponseWriter) { io.WriteString(w, "null") },
		"cut short":               func(w http.ResponseWriter) { io.WriteString(w, second[:len(second)/2]) },
		"shorter than announced":  func(w http.ResponseWriter) { w.Header().Set("Content-Length", "99999"); io.WriteString(w, second) },
		"more after the list":     func(w http.ResponseWriter) { io.WriteString(w, second+"[]") },
		"an object":               func(w http.ResponseWriter) { io.WriteString(w, `{"message": "hello"}`) },
		"a page of HTML":          func(w http.ResponseWriter) { io.WriteString(w, "<html>sign in</html>") },
		"accepted, come back":     func(w http.ResponseWriter) { w.WriteHeader(202); io.WriteString(w, "{}") },
		"no content":              func(w http.ResponseWriter) { w.WriteHeader(204) },
		"not modified, not asked": func(w http.ResponseWriter) { w.WriteHeader(304) },
		"an id that is text":      func(w http.ResponseWriter) { io.WriteString(w, `[{"id": "7"}]`) },
		"an account without an id": func(w http.ResponseWriter) {
			io.WriteString(w, good([]object{with(review(8, 2, "CHANGES_REQUESTED", head, 8), "user", object{"login": "user2"})}))
		},
		"a word without a time": func(w http.ResponseWriter) {
			io.WriteString(w, good([]object{with(review(8, 2, "CHANGES_REQUESTED", head, 8), "submitted_at", nil)}))
		},
		"a word without an id": func(w http.ResponseWriter) {
			io.WriteString(w, good([]object{with(review(8, 2, "CHANGES_REQUESTED", head, 8), "id", nil)}))
		},
		"a state nobody knows": func(w http.ResponseWriter) { io.WriteString(w, good([]object{review(8, 2, "WITHDRAWN", head, 8)})) },
		"too much":             func(w http.ResponseWriter) { io.WriteString(w, "["+strings.Repeat(" ", 17<<20)+"]") },
		"a broken connection":  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("page") == "2" {
					answer(w)
					return
				}
				h.page(w, r, history())
			})
			words, err := h.client().Reviews(t.Context(), 7)
			if err == nil || words != nil || name == "too much" && !strings.Contains(err.Error(), "MiB") {
				t.Errorf("%d words, %v", len(words), err)
			}
		})
	}
}

// The link to the next page is lost on the way: a full page is not taken for the last one.
func TestGitHubLostLink(t *testing.T) {
	h := newHub(t)
	h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) {
		page := httptest.NewRecorder()
		h.page(page, r, history())
		io.Copy(w, page.Body)
	})
	words, err := h.client().Reviews(t.Context(), 7)
	if err != nil || len(words) != 1 || words[0].State != forge.ChangesRequested {
		t.Errorf("%+v, %v", words, err)
	}
}

func TestGitHubEndlessPages(t *testing.T) {
	h := newHub(t)
	h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", `<`+h.server.URL+`/api/v3/repos/acme/access/pulls/7/reviews?page=2>; rel="next"`)
		json.NewEncoder(w).Encode([]object{review(1, 2, "APPROVED", head, 1)})
	})
	if _, err := h.client().Reviews(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "pages") {
		t.Errorf("got %v", err)
	}
}

func TestGitHubRateLimits(t *testing.T) {
	reset := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		until  time.Time
	}{
		"primary": {func(w http.ResponseWriter) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
			refuse(w, 403, "API rate limit exceeded for user ID 900.")
		}, reset},
		"primary as 429": {func(w http.ResponseWriter) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
			refuse(w, 429, "API rate limit exceeded for user ID 900.")
		}, reset},
		"secondary with a time": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "120")
			refuse(w, 403, "You have exceeded a secondary rate limit.")
		}, time.Now().Add(2 * time.Minute)},
		"secondary without": {func(w http.ResponseWriter) { refuse(w, 403, "You have exceeded a secondary rate limit. Please wait.") }, time.Now().Add(time.Minute)},
		"429 without more":  {func(w http.ResponseWriter) { refuse(w, 429, "slow down") }, time.Now().Add(time.Minute)},
		"for a hundred years": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "2000000000")
			refuse(w, 429, "slow down")
		}, time.Now().Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, _ *http.Request) { c.answer(w) })
			client := h.client()
			for range 2 {
				_, err := client.Reviews(t.Context(), 7)
				var limited *forge.RateLimited
				if !errors.As(err, &limited) || limited.Until.Sub(c.until).Abs() > 20*time.Second {
					t.Fatalf("got %v, want limited until %v", err, c.until)
				}
			}
			if n := len(h.requests("GET ")); n != 1 {
				t.Errorf("%d requests: asked again before the time", n)
			}
		})
	}
	t.Run("the last one still goes through", func(t *testing.T) {
		h := newHub(t)
		h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
			h.page(w, r, nil)
		})
		client := h.client()
		if _, err := client.Reviews(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		var limited *forge.RateLimited
		if _, err := client.PullRequest(t.Context(), 7); !errors.As(err, &limited) || limited.Until.Sub(reset).Abs() > 5*time.Second {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a refusal of another kind is no limit", func(t *testing.T) {
		h := newHub(t)
		h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, 403, "Resource not accessible by integration")
		})
		_, err := h.client().Reviews(t.Context(), 7)
		var refused *forge.Error
		if !errors.As(err, &refused) || refused.Status != 403 || !strings.Contains(err.Error(), "permissions") {
			t.Errorf("got %v", err)
		}
	})
}

// A server that stumbles is asked again for what it shows, and never for what it does.
func TestGitHubRetries(t *testing.T) {
	h := newHub(t)
	var reads, writes int
	h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) {
		switch reads++; reads {
		case 1:
			refuse(w, 502, "Server Error")
		case 2:
			panic(http.ErrAbortHandler)
		default:
			h.page(w, r, []object{review(1, 2, "APPROVED", head, 1)})
		}
	})
	h.list("GET issues/7/comments")
	h.handle("POST issues/7/comments", func(w http.ResponseWriter, _ *http.Request) {
		writes++
		refuse(w, 502, "Server Error")
	})
	if words, err := h.client().Reviews(t.Context(), 7); err != nil || len(words) != 1 || reads != 3 {
		t.Errorf("%+v, %v after %d requests", words, err, reads)
	}
	if err := h.client().Comment(t.Context(), 7, "verdict", "x"); err == nil || writes != 1 {
		t.Errorf("%v after %d requests", err, writes)
	}
	h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		refuse(w, 503, "maintenance")
	})
	start := time.Now()
	if _, err := h.client().Reviews(t.Context(), 7); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("waited %v: %v", time.Since(start), err)
	}
}

func TestGitHubConditionalRequests(t *testing.T) {
	h := newHub(t)
	etag, items := `W/"one"`, []object{review(1, 2, "APPROVED", head, 1)}
	unchanged := 0
	h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			unchanged++
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.page(w, r, items)
	})
	client := h.client()
	for range 3 {
		words, err := client.Reviews(t.Context(), 7)
		if err != nil || len(words) != 1 || words[0].State != forge.Approved {
			t.Fatalf("%+v, %v", words, err)
		}
	}
	if unchanged != 2 {
		t.Errorf("%d answers of 3 were not modified", unchanged)
	}
	etag, items = `W/"two"`, []object{review(1, 2, "DISMISSED", head, 1)}
	if words, err := client.Reviews(t.Context(), 7); err != nil || words[0].State != forge.Dismissed {
		t.Errorf("after a change: %+v, %v", words, err)
	}
}

// The token goes to one host, and into no error.
func TestTokenStaysHome(t *testing.T) {
	stolen := make(chan string, 10)
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stolen <- r.Header.Get("Authorization")
		io.WriteString(w, "[]")
	}))
	defer thief.Close()
	h := newHub(t)
	here := h.server.URL + "/api/v3/repos/acme/access/elsewhere"
	h.list("GET elsewhere")
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, target := range []string{thief.URL, here} {
			h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, status) })
			if _, err := h.client().Reviews(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "moved") {
				t.Errorf("%d to %s: %v", status, target, err)
			}
		}
	}
	// The next page is only a number: where the link points is not asked.
	h.handle("GET pulls/7/reviews", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "1" {
			w.Header().Set("Link", "<"+thief.URL+`/?page=2>; rel="next"`)
		}
		io.WriteString(w, "[]")
	})
	if _, err := h.client().Reviews(t.Context(), 7); err != nil {
		t.Error(err)
	}
	if len(h.requests("GET elsewhere")) > 0 {
		t.Error("a redirect was followed")
	}
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"in the message": func(w http.ResponseWriter, r *http.Request) {
			refuse(w, 422, "bad header "+r.Header.Get("Authorization")+"\n\x1b[31mforged line")
		},
		"as the body": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Authorization")) },
		"as a state": func(w http.ResponseWriter, r *http.Request) {
			json.NewEncoder(w).Encode([]object{{"id": r.Header.Get("Authorization")}})
		},
		"as a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+token+"/", http.StatusFound)
		},
	} {
		h.handle("GET pulls/7/reviews", answer)
		_, err := h.client().Reviews(t.Context(), 7)
		if err == nil || strings.Contains(err.Error(), token) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.server.Close()
	if _, err := h.client().Reviews(t.Context(), 7); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("nobody there: %v", err)
	}
	for _, shown := range []string{fmt.Sprint(forge.Token(token)), fmt.Sprintf("%+v %#v %s %q", forge.Options{Token: token}, forge.Options{Token: token}, forge.Token(token), forge.Token(token))} {
		if strings.Contains(shown, token) {
			t.Errorf("printed: %s", shown)
		}
	}
	if text, err := json.Marshal(forge.Options{Token: token}); err != nil || strings.Contains(string(text), token) {
		t.Errorf("%s, %v", text, err)
	}
	select {
	case got := <-stolen:
		t.Errorf("another host was asked, with %q", got)
	default:
	}
}

func TestGitHubIsGivenUp(t *testing.T) {
	h := newHub(t)
	h.handle("GET pulls/7/reviews", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := h.client().Reviews(ctx, 7); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestGitHubPullRequests(t *testing.T) {
	h := newHub(t)
	var closed []object
	for i := range 250 { // last updated first; every third was merged
		p := merged(1000-i, 1000-i)
		if i%3 != 0 {
			p["merged_at"] = nil
		}
		closed = append(closed, p)
	}
	closed[4]["base"].(object)["ref"] = "other"
	h.handle("GET pulls", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get("base") != "main" {
			t.Errorf("asked for %s", r.URL)
		}
		switch query.Get("state") + " " + query.Get("sort") + " " + query.Get("direction") {
		case "open created asc":
			h.page(w, r, []object{pull(7, nil), pull(8, object{"base": object{"ref": "other", "sha": before}}), pull(1000, nil)})
		case "closed updated desc":
			h.page(w, r, closed)
		default:
			t.Errorf("asked for %s", r.URL)
		}
	})
	since := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Add(990 * time.Minute)
	got, err := h.client().PullRequests(t.Context(), "main", since)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for _, p := range got {
		numbers = append(numbers, fmt.Sprint(p.Number, p.Merged, p.Open))
		if p.Merged != (p.MergeCommit == merge) || !p.Merged && p.MergeCommit != "" || p.Author.ID != 1 || p.Head != head || p.HeadRepo != "acme/access" {
			t.Errorf("%+v", p)
		}
	}
	// 1000 was merged between the two lists.
	if want := []string{"7 false true", "991 true false", "994 true false", "997 true false", "1000 true false"}; !slices.Equal(numbers, want) {
		t.Errorf("%v, want %v", numbers, want)
	}
	if n := len(h.requests("GET pulls?")); n != 2 {
		t.Errorf("%d requests, want 2: older pages need not be read", n)
	}
	// A list that is not in the order that was asked for is read to its end.
	slices.Reverse(closed)
	if again, err := h.client().PullRequests(t.Context(), "main", since); err != nil || len(again) != len(got) {
		t.Errorf("in another order: %d, want %d: %v", len(again), len(got), err)
	}

	h.list("GET commits/"+merge+"/pulls", merged(5, 5), pull(6, nil))
	as, err := h.client().MergedAs(t.Context(), merge)
	if err != nil || len(as) != 1 || as[0].Number != 5 {
		t.Errorf("%+v, %v", as, err)
	}
	if _, err := h.client().MergedAs(t.Context(), "main"); err == nil {
		t.Error("a branch is taken for a commit")
	}
	for name, bad := range map[string]object{
		"another number": pull(8, nil), "no head": pull(7, object{"head": nil}), "no number": pull(0, nil), "a head that is no commit": pull(7, object{"head": object{"sha": "main"}}),
		"merged as nothing": pull(7, object{"merged_at": at(1), "merge_commit_sha": nil}),
	} {
		h.json("GET pulls/7", bad)
		if p, err := h.client().PullRequest(t.Context(), 7); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestGitHubContributors(t *testing.T) {
	h := newHub(t)
	client := h.client()
	p, err := client.PullRequest(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(sha string, author, committer any) object {
		return object{"sha": sha, "author": author, "committer": committer, "commit": object{"message": "x"}}
	}
	activity := func(kind string, who any, minute int) object {
		return object{"id": minute, "activity_type": kind, "ref": "refs/heads/request/orders", "actor": who, "timestamp": at(minute), "before": before, "after": head}
	}
	pushes := []object{activity("force_push", account(6), 5), activity("push", account(5), 3), activity("branch_creation", account(4), -1)}
	h.list("GET pulls/7/commits", entry(before, account(2), account(3)), entry(head, nil, account(3)))
	h.handle("GET activity", func(w http.ResponseWriter, r *http.Request) { // pages by cursor
		query := r.URL.Query()
		if query.Get("ref") != "refs/heads/request/orders" {
			t.Errorf("asked for %s", r.URL)
		}
		from, _ := strconv.Atoi(query.Get("after"))
		if from+1 < len(pushes) {
			query.Set("after", strconv.Itoa(from+1))
			w.Header().Set("Link", "<"+h.server.URL+r.URL.Path+"?"+query.Encode()+`>; rel="next"`)
		}
		json.NewEncoder(w).Encode(pushes[from : from+1])
	})
	check := func(what string, known bool, want ...int64) {
		t.Helper()
		by, err := client.Contributors(t.Context(), p, nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		var ids []int64
		for _, u := range by.Users {
			ids = append(ids, u.ID)
		}
		if !slices.Equal(ids, want) || by.PushersKnown != known || !slices.Equal(by.Unknown, []string{head}) {
			t.Errorf("%s: %+v, want %v", what, by, want)
		}
	}
	check("all of them", true, 1, 2, 3, 4, 5, 6)
	signed := []forge.Signed{{Commit: head, Parent: before, Account: 3}}
	if by, err := client.Contributors(t.Context(), p, signed); err != nil || by.SameAs != nil || !by.Has(3) {
		t.Errorf("a signature in a forced push: %+v, %v", by, err)
	}
	all := pushes
	pushes = []object{activity("push", account(3), 6), activity("push", account(4), 3), activity("branch_creation", account(4), -1)}
	pushes[1]["after"], pushes[2]["after"], pushes[2]["before"] = before, before, strings.Repeat("0", 40)
	h.list("GET pulls/7/commits", entry(before, account(2), account(4)), entry(head, nil, account(3)))
	if by, err := client.Contributors(t.Context(), p, signed); err != nil || !slices.Equal(by.SameAs, []string{before}) || by.Has(3) || !by.Has(4) {
		t.Errorf("a signature that its maker pushed: %+v, %v", by, err)
	} else if approves := (forge.Review{ID: 1, User: forge.User{ID: 3}, State: forge.Approved, Commit: before}); approves.Approves(p, by) != nil || (forge.Review{ID: 1, User: forge.User{ID: 4}, State: forge.Approved, Commit: before}).Approves(p, by) == nil {
		t.Errorf("%+v by %+v: %v", approves, by, approves.Approves(p, by))
	}
	for _, name := range []string{"base_ref_changed", "automatic_base_change_succeeded"} {
		h.list("GET issues/7/events", object{"id": 1, "event": name, "created_at": at(7)}, object{"id": 2, "event": "labeled", "created_at": at(30)})
		by, err := client.Contributors(t.Context(), p, signed)
		if err != nil {
			t.Fatal(err)
		}
		for minute, counts := range map[int]bool{6: false, 7: false, 8: true} {
			submitted, err := time.Parse(time.RFC3339, at(minute))
			if err != nil {
				t.Fatal(err)
			}
			word := forge.Review{ID: 1, User: forge.User{ID: 3}, State: forge.Approved, Commit: head, Submitted: submitted}
			if got := word.Approves(p, by); (got == nil) != counts {
				t.Errorf("%s: approved in minute %d: %v", name, minute, got)
			}
		}
	}
	h.handle("GET issues/7/events", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "Not Found") })
	if by, err := client.Contributors(t.Context(), p, signed); err == nil {
		t.Errorf("nobody tells whether it was retargeted: %+v", by)
	}
	h.list("GET issues/7/events")
	pushes = all
	h.list("GET pulls/7/commits", entry(before, account(2), account(3)), entry(head, nil, account(3)))
	pushes[2]["timestamp"] = at(1) // the branch was deleted and made anew, so that its first pushes are not these
	check("made anew", false, 1, 2, 3, 4, 5, 6)
	pushes[2] = activity("branch_creation", nil, -1)
	check("whoever made it is gone", false, 0, 1, 2, 3, 5, 6)
	pushes = pushes[:2]
	check("too far back", false, 1, 2, 3, 5, 6)
	h.handle("GET activity", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "Not Found") })
	check("a fork", false, 1, 2, 3)

	h.list("GET pulls/7/commits", entry(before, account(2), account(3)))
	if _, err := client.Contributors(t.Context(), p, nil); err == nil {
		t.Error("commits without the head: they are not those of this pull request any more")
	}
	var many []object
	for range 250 {
		many = append(many, entry(head, account(2), account(2)))
	}
	h.list("GET pulls/7/commits", many...)
	if _, err := client.Contributors(t.Context(), p, nil); err == nil || !strings.Contains(err.Error(), "250") {
		t.Errorf("250 commits, where GitHub stops listing: %v", err)
	}
	h.list("GET pulls/7/files", object{"filename": "b", "previous_filename": "a"}, object{"filename": "c"})
	if files, err := client.Files(t.Context(), 7); err != nil || !slices.Equal(files, []string{"a", "b", "c"}) {
		t.Errorf("%v, %v", files, err)
	}
}

func TestGitHubOpen(t *testing.T) {
	h := newHub(t)
	h.json("POST pulls", pull(9, nil))
	n := forge.New{Base: "main", Branch: "request/orders", Title: "access", Body: "please <b>"}
	p, err := h.client().Open(t.Context(), n)
	if err != nil || p.Number != 9 {
		t.Fatalf("%+v, %v", p, err)
	}
	var sent object
	if err := json.Unmarshal([]byte(h.sent("POST pulls")[0]), &sent); err != nil || !reflect.DeepEqual(sent, object{"base": "main", "head": "request/orders", "title": "access", "body": "please <b>"}) {
		t.Errorf("sent %v, %v", sent, err)
	}
	h.handle("POST pulls", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 422, "Validation Failed") })
	fork := pull(3, object{"head": object{"ref": "request/orders", "sha": head, "repo": object{"full_name": "mallory/access"}}})
	h.list("GET pulls", fork, pull(7, nil))
	if p, err := h.client().Open(t.Context(), n); err != nil || p.Number != 7 {
		t.Errorf("one is open already: %+v, %v", p, err)
	}
	h.list("GET pulls", fork)
	if p, err := h.client().Open(t.Context(), n); err == nil {
		t.Errorf("taken for ours: %+v", p)
	}
}

func TestGitHubCommentStatusAndCheck(t *testing.T) {
	h := newHub(t)
	marked := "<!-- sallyport:verdict -->\n"
	bot := object{"id": 900, "login": "sallyport[bot]", "type": "Bot"}
	mine := object{"id": 12, "user": bot, "body": marked + "old"}
	h.list("GET issues/7/comments", object{"id": 10, "user": account(66), "body": marked + "forged"},
		object{"id": 11, "user": bot, "body": "quoting " + marked}, mine, object{"id": 13, "user": bot, "body": marked + "older copy"})
	h.json("PATCH issues/comments/12", object{"id": 12})
	h.json("POST issues/7/comments", object{"id": 20})
	if err := h.client().Comment(t.Context(), 7, "verdict", "new"); err != nil || len(h.sent("PATCH issues/comments/12")) != 1 {
		t.Errorf("%v, asked %v", err, h.requests(""))
	}
	mine["body"] = marked + "new\r\n"
	if err := h.client().Comment(t.Context(), 7, "verdict", "new"); err != nil || len(h.sent("PATCH")) != 1 || len(h.sent("POST")) != 0 {
		t.Errorf("nothing new: %v, asked %v", err, h.requests(""))
	}
	if err := h.client().Comment(t.Context(), 7, "other", "new"); err != nil || len(h.sent("POST issues/7/comments")) != 1 {
		t.Errorf("%v, asked %v", err, h.requests(""))
	}
	if err := h.client().Comment(t.Context(), 7, "--> <script>", "new"); err == nil {
		t.Error("a marker that ends itself")
	}
	// A token of GitHub Actions may not ask who it is, and is told.
	h.handle("GET /user", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "Resource not accessible by integration") })
	if err := h.client().Comment(t.Context(), 7, "verdict", "new"); err == nil || !strings.Contains(err.Error(), "41898282") {
		t.Errorf("got %v", err)
	}

	h.json("POST statuses/"+head, object{"id": 1})
	if err := h.client().SetStatus(t.Context(), head, forge.Status{Context: "sallyport/check", Verdict: forge.Success, Description: "line\nbreak " + strings.Repeat("x", 200)}); err != nil {
		t.Fatal(err)
	}
	var status struct{ State, Description, Context string }
	if err := json.Unmarshal([]byte(h.sent("POST statuses")[0]), &status); err != nil || len([]rune(status.Description)) != 140 || status.State != "success" || strings.Contains(status.Description, "\n") {
		t.Errorf("%+v, %v", status, err)
	}
	for _, bad := range []error{
		h.client().SetStatus(t.Context(), "main", forge.Status{Context: "x", Verdict: forge.Success}),
		h.client().SetStatus(t.Context(), head, forge.Status{Context: "x", Verdict: "fine"}),
		h.client().SetStatus(t.Context(), head, forge.Status{Verdict: forge.Success}),
	} {
		if bad == nil {
			t.Error("a status that says nothing is sent")
		}
	}
	for _, c := range []struct {
		notes int
		want  []int
	}{{0, []int{0, 0}}, {50, []int{50, 0}}, {120, []int{50, 50, 20}}} {
		h := newHub(t)
		h.json("POST check-runs", object{"id": 77})
		h.json("PATCH check-runs/77", object{"id": 77})
		check := forge.Check{Name: "sallyport", Commit: head, Verdict: forge.Failure, Title: "refused", Summary: "s"}
		for i := range c.notes {
			check.Notes = append(check.Notes, forge.Note{Path: "reviews/db/x.yaml", Line: i + 1, Level: "failure", Message: "m"})
		}
		if err := h.client().Report(t.Context(), check); err != nil {
			t.Fatal(err)
		}
		sent := append(h.sent("POST check-runs"), h.sent("PATCH check-runs")...)
		var sizes []int
		for i, body := range sent {
			var run struct {
				Status, Conclusion string
				Output             struct {
					Annotations []struct {
						Line int `json:"start_line"`
					}
				}
			}
			if err := json.Unmarshal([]byte(body), &run); err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(run.Output.Annotations))
			if (run.Status == "completed") != (i == len(sent)-1) || (run.Conclusion == "failure") != (i == len(sent)-1) {
				t.Errorf("%d notes, request %d of %d: %s %s", c.notes, i+1, len(sent), run.Status, run.Conclusion)
			}
			if n := run.Output.Annotations; len(n) > 0 && n[0].Line != 50*i+1 {
				t.Errorf("request %d starts with line %d", i, n[0].Line)
			}
		}
		if !slices.Equal(sizes, c.want) {
			t.Errorf("%d notes in batches of %v, want %v", c.notes, sizes, c.want)
		}
	}
}

func TestGitHubProtection(t *testing.T) {
	h := newHub(t)
	rule := func(kind string, parameters object) object {
		return object{"type": kind, "ruleset_source_type": "Repository", "ruleset_source": "acme/access", "ruleset_id": 42, "parameters": parameters}
	}
	notProtected := func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "Branch not protected") }
	strong := []object{
		rule("deletion", nil), rule("non_fast_forward", nil),
		rule("pull_request", object{"dismiss_stale_reviews_on_push": true, "require_code_owner_review": true, "require_last_push_approval": true, "required_approving_review_count": 2, "required_review_thread_resolution": false, "allowed_merge_methods": []string{"squash"}}),
		rule("required_status_checks", object{"strict_required_status_checks_policy": true, "required_status_checks": []object{{"context": "sallyport/check", "integration_id": 15368}}}),
		rule("a_rule_of_tomorrow", object{"x": 1}),
	}
	weak := func() string {
		t.Helper()
		p, err := h.client().Protection(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(p.Weaknesses(2, "sallyport/check"), "\n")
	}
	h.handle("GET branches/main/protection", notProtected)
	h.list("GET rules/branches/main")
	for _, want := range []string{"without a pull request", "2 approvals, and 0 are required", "take the approval back", "refusal", "pushed last", "code owner", "force-pushed", "deleted", "sallyport/check"} {
		if got := weak(); !strings.Contains(got, want) {
			t.Errorf("unprotected: %q is not in\n%s", want, got)
		}
	}
	h.list("GET rules/branches/main", strong...)
	h.json("GET rulesets/42", object{"id": 42, "name": "main", "bypass_actors": []object{}})
	if got := weak(); got != "" {
		t.Errorf("protected, and yet\n%s", got)
	}
	h.json("GET rulesets/42", object{"id": 42, "name": "main", "bypass_actors": []object{{"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}, {"actor_id": nil, "actor_type": "OrganizationAdmin", "bypass_mode": "pull_request"}}})
	if got := weak(); !strings.Contains(got, "RepositoryRole 5 (ruleset main, always), OrganizationAdmin (ruleset main, pull_request)") {
		t.Errorf("bypass: %s", got)
	}
	h.json("GET rulesets/42", object{"id": 42, "name": "main"}) // GitHub leaves the list out for those who may not see it
	if got := weak(); !strings.Contains(got, "who may bypass ruleset 42") {
		t.Errorf("unseen: %s", got)
	}
	h.list("GET rules/branches/main")
	h.json("GET branches/main/protection", object{
		"required_pull_request_reviews": object{"dismiss_stale_reviews": true, "require_code_owner_reviews": true, "require_last_push_approval": true, "required_approving_review_count": 2,
			"bypass_pull_request_allowances": object{"users": []object{account(66)}, "teams": []object{{"slug": "ops"}}, "apps": []object{{"slug": "helper"}}}},
		"required_status_checks": object{"strict": true, "contexts": []string{"sallyport/check"}, "checks": []object{{"context": "sallyport/check", "app_id": 1}}},
		"enforce_admins":         object{"enabled": false}, "allow_force_pushes": object{"enabled": false}, "allow_deletions": object{"enabled": false},
	})
	if got, want := weak(), "not bound by the rules: administrators (classic protection), user user66 (classic protection), team ops (classic protection), app helper (classic protection)"; got != want {
		t.Errorf("classic: %s", got)
	}
	h.handle("GET branches/main/protection", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "Not Found") })
	if got := weak(); !strings.Contains(got, "classic branch protection") {
		t.Errorf("classic protection that is not to be seen: %s", got)
	}
	h.handle("GET rules/branches/main", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "Server Error") })
	if p, err := h.client().Protection(t.Context(), "main"); err == nil {
		t.Errorf("half of the answer: %+v", p)
	}
}

func TestGitHubAddress(t *testing.T) {
	c, err := forge.Open(forge.Options{Kind: forge.GitHub, Remote: "git@github.com:acme/access.git", Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.NewPullRequestURL("main", "request/ä b?"), "https://github.com/acme/access/compare/main...request/%C3%A4%20b%3F?expand=1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := url.Parse(c.NewPullRequestURL("main", "x")); err != nil {
		t.Error(err)
	}
}

// Whatever a forge answers, a word is whole: an account, one of the three states, an id.
func FuzzReviews(f *testing.F) {
	for _, seed := range []any{history()[:2], []object{review(1, 2, "DISMISSED", head, 1)}, []object{with(review(1, 2, "APPROVED", head, 1), "user", nil)}, []object{with(review(3, 4, "REQUEST_CHANGES", head, 2), "dismissed", true)}} {
		text, err := json.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	var answer string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/settings/api") {
			io.WriteString(w, `{"max_response_items": 50}`)
			return
		}
		io.WriteString(w, answer)
	}))
	f.Cleanup(server.Close)
	var clients []*forge.Client
	for _, kind := range []forge.Kind{forge.GitHub, forge.Gitea} {
		c, err := forge.Open(forge.Options{Kind: kind, Remote: "git@git.example.com:acme/access.git", URL: server.URL, Token: token})
		if err != nil {
			f.Fatal(err)
		}
		clients = append(clients, c)
	}
	f.Fuzz(func(t *testing.T, text string) {
		answer = text
		for _, c := range clients {
			words, err := c.Reviews(t.Context(), 7)
			if err != nil && words != nil {
				t.Errorf("%v and %+v", err, words)
			}
			seen := map[int64]bool{}
			for _, r := range words {
				if r.User.ID <= 0 || r.ID <= 0 || seen[r.User.ID] || r.State != forge.Approved && r.State != forge.ChangesRequested && r.State != forge.Dismissed {
					t.Errorf("%+v", r)
				}
				seen[r.User.ID] = true
			}
		}
	})
}

func TestGitHubStanding(t *testing.T) {
	status := func(context, state string) object { return object{"context": context, "state": state} }
	run := func(name, status string, conclusion any) object {
		return object{"name": name, "status": status, "conclusion": conclusion}
	}
	many := func(n int, make func(i int) object) (all []object) {
		for i := range n {
			all = append(all, make(i))
		}
		return all
	}
	for name, c := range map[string]struct {
		statuses, runs []object
		want           string
	}{
		"nothing":           {nil, nil, ""},
		"one status":        {[]object{status("ci", "success")}, nil, "CI passed"},
		"both kinds":        {[]object{status("ci", "success")}, []object{run("check", "completed", "success"), run("lint", "completed", "skipped"), run("x", "completed", "neutral")}, "CI passed"},
		"a run is queued":   {[]object{status("ci", "success")}, []object{run("check", "queued", nil)}, "CI is running, 1 of 2 done"},
		"a status waits":    {[]object{status("ci", "pending")}, []object{run("check", "completed", "success")}, "CI is running, 1 of 2 done"},
		"failed while more": {[]object{status("ci", "error"), status("b", "pending")}, []object{run("check", "completed", "timed_out")}, "CI failed: check, ci"},
		"cancelled":         {nil, []object{run("check", "completed", "cancelled")}, "CI failed: check"},
		"a new conclusion":  {nil, []object{run("check", "completed", "splendid")}, "CI failed: check"},
		"no conclusion":     {nil, []object{run("check", "completed", nil)}, "CI failed: check"},
		"a new state":       {[]object{status("ci", "marvellous")}, nil, "CI failed: ci"},
		"the last page of each": {
			many(101, func(i int) object { return status(fmt.Sprint("s", i), []string{"success", "failure"}[i/100]) }),
			many(201, func(i int) object {
				return run(fmt.Sprint("r", i), "completed", []string{"success", "success", "failure"}[i/100])
			}),
			"CI failed: r200, s100",
		},
	} {
		h := newHub(t)
		h.wrapped("GET commits/"+head+"/status", "statuses", c.statuses...)
		h.wrapped("GET commits/"+head+"/check-runs", "check_runs", c.runs...)
		if got, err := h.client().Standing(t.Context(), head); err != nil || got.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	h := newHub(t)
	h.wrapped("GET commits/"+head+"/status", "statuses", status("ci", "success"))
	if got, err := h.client().Standing(t.Context(), head); err == nil {
		t.Errorf("the check runs cannot be read, and yet it stands %q", got)
	}
	if _, err := h.client().Standing(t.Context(), "main"); err == nil || len(h.requests("GET commits/main")) != 0 {
		t.Errorf("a branch in place of a commit: %v", err)
	}
}

// wrapped is list for an answer that is an object with the list in it.
func (h *hub) wrapped(route, key string, items ...object) {
	h.handle(route, func(w http.ResponseWriter, r *http.Request) {
		var page bytes.Buffer
		h.page(&recorder{ResponseWriter: w, body: &page}, r, items)
		fmt.Fprintf(w, `{"total_count": %d, %q: %s}`, len(items), key, page.Bytes())
	})
}

type recorder struct {
	http.ResponseWriter
	body *bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func TestGitHubMerge(t *testing.T) {
	allow := func(squash, merge, rebase bool) object {
		return object{"name": "access", "allow_squash_merge": squash, "allow_merge_commit": merge, "allow_rebase_merge": rebase}
	}
	for name, c := range map[string]struct {
		repository object
		answers    []func(http.ResponseWriter)
		method     string // "": nothing is sent
		err        string // "": merged
		blocked    bool
	}{
		"squash":             {repository: allow(true, true, true), method: "squash"},
		"merge commit":       {repository: allow(false, true, true), method: "merge"},
		"rebase":             {repository: allow(false, false, true), method: "rebase"},
		"no way":             {repository: allow(false, false, false), err: "allows neither", blocked: true},
		"another repository": {repository: object{"name": "other", "allow_squash_merge": true}, err: `repository "other"`},
		"protected": {repository: allow(true, true, true), method: "squash", err: "At least 1 approving review", blocked: true, answers: []func(http.ResponseWriter){
			func(w http.ResponseWriter) {
				refuse(w, 405, "At least 1 approving review is required by reviewers with write access.")
			},
		}},
		"the base moved": {repository: allow(true, true, true), method: "squash", answers: []func(http.ResponseWriter){
			func(w http.ResponseWriter) {
				refuse(w, 405, "Base branch was modified. Review and try the merge again.")
			}, nil,
		}},
		"pushed to meanwhile": {repository: allow(true, true, true), method: "squash", err: "Head branch was modified", answers: []func(http.ResponseWriter){
			func(w http.ResponseWriter) {
				refuse(w, 409, "Head branch was modified. Review and try the merge again.")
			},
		}},
		"the token may not": {repository: allow(true, true, true), method: "squash", err: "look at its permissions", answers: []func(http.ResponseWriter){
			func(w http.ResponseWriter) { refuse(w, 403, "Resource not accessible by integration") },
		}},
		"not merged": {repository: allow(true, true, true), method: "squash", err: "does not say that it merged it", answers: []func(http.ResponseWriter){
			func(w http.ResponseWriter) { json.NewEncoder(w).Encode(object{"merged": false}) },
		}},
		"no answer": {repository: allow(true, true, true), method: "squash", err: "does not say that it merged it", answers: []func(http.ResponseWriter){
			func(http.ResponseWriter) {},
		}},
	} {
		h := newHub(t)
		h.json("GET /repos/acme/access", c.repository)
		asked := 0
		h.handle("PUT pulls/7/merge", func(w http.ResponseWriter, _ *http.Request) {
			asked++
			if len(c.answers) >= asked && c.answers[asked-1] != nil {
				c.answers[asked-1](w)
				return
			}
			json.NewEncoder(w).Encode(object{"merged": true, "sha": head})
		})
		err := h.client().Merge(t.Context(), 7, head)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || errors.Is(err, forge.ErrBlocked) != c.blocked {
			t.Errorf("%s: %v, blocked %v", name, err, errors.Is(err, forge.ErrBlocked))
		}
		sent := h.sent("PUT pulls/7/merge")
		if want := max(len(c.answers), min(1, len(c.method))); len(sent) != want {
			t.Errorf("%s: asked %d times, want %d", name, len(sent), want)
		}
		for _, body := range sent {
			var said struct {
				Method string `json:"merge_method"`
				SHA    string `json:"sha"`
			}
			if json.Unmarshal([]byte(body), &said) != nil || said.Method != c.method || said.SHA != head {
				t.Errorf("%s: sent %s", name, body)
			}
		}
	}
	for _, bad := range []struct {
		number int
		commit string
	}{{0, head}, {7, ""}, {7, "main"}, {7, head[:12]}} {
		h := newHub(t)
		if err := h.client().Merge(t.Context(), bad.number, bad.commit); err == nil || len(h.requests("")) > 0 {
			t.Errorf("pull request %d at %q: %v", bad.number, bad.commit, err)
		}
	}
}
