package forge_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/reviews/forge"
)

// What a real Gitea does not say unless it is broken or somebody sits in between, so that no real one can show it.
func TestHostileGitea(t *testing.T) {
	approved := review(1, 2, "APPROVED", head, 1)
	text, err := json.Marshal([]object{approved})
	if err != nil {
		t.Fatal(err)
	}
	first := func(w http.ResponseWriter) {
		w.Header().Set("X-Total-Count", "2")
		w.Write(text)
	}
	ask := func(settings string, second func(w http.ResponseWriter)) ([]forge.Review, error) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/settings/api"):
				io.WriteString(w, settings)
			case r.URL.Query().Get("page") == "1":
				first(w)
			default:
				w.Header().Set("X-Total-Count", "2")
				second(w)
			}
		}))
		defer server.Close()
		c, err := forge.Open(forge.Options{Kind: forge.Forgejo, Remote: "git@git.example.com:acme/access.git", URL: server.URL, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		return c.Reviews(t.Context(), 7)
	}
	const one = `{"max_response_items": 1}`
	refused := with(review(2, 2, "REQUEST_CHANGES", head, 2), "dismissed", false)
	if words, err := ask(one, func(w http.ResponseWriter) { json.NewEncoder(w).Encode([]object{refused}) }); err != nil || len(words) != 1 || words[0].State != forge.ChangesRequested {
		t.Fatalf("a good second page: %+v, %v", words, err)
	}
	for name, body := range map[string]string{
		"null": "null", "nothing": "", "an object": "{}", "cut short": string(text[:20]), "HTML": "<html>", "numbers": "[1]",
		"a state nobody knows":  `[{"id": 2, "user": {"id": 2}, "state": "REVOKED", "submitted_at": "2026-11-20T12:00:00Z"}]`,
		"a word of nobody":      `[{"id": 2, "user": null, "state": "REQUEST_CHANGES", "submitted_at": "2026-11-20T12:00:00Z"}]`,
		"a word at no time":     `[{"id": 2, "user": {"id": 2}, "state": "REQUEST_CHANGES"}]`,
		"a time that is none":   `[{"id": 2, "user": {"id": 2}, "state": "REQUEST_CHANGES", "submitted_at": "soon"}]`,
		"a dismissal in words":  `[{"id": 2, "user": {"id": 2}, "state": "APPROVED", "dismissed": "yes", "submitted_at": "2026-11-20T12:00:00Z"}]`,
		"an id beyond all bits": `[{"id": 99999999999999999999, "user": {"id": 2}, "state": "APPROVED", "submitted_at": "2026-11-20T12:00:00Z"}]`,
	} {
		if words, err := ask(one, func(w http.ResponseWriter) { io.WriteString(w, body) }); err == nil || words != nil {
			t.Errorf("%s: %+v, %v", name, words, err)
		}
	}
	for _, settings := range []string{"{}", "null", `{"max_response_items": 0}`, `{"max_response_items": -1}`, `{"max_response_items": "all"}`} {
		if words, err := ask(settings, first); err == nil || words != nil {
			t.Errorf("page size %s: %+v, %v", settings, words, err)
		}
	}
	if _, err := ask(one, func(w http.ResponseWriter) { w.Header().Set("X-Total-Count", "999999999"); w.Write(text) }); err == nil || !strings.Contains(fmt.Sprint(err), "pages") {
		t.Errorf("a list without an end: %v", err)
	}
}

// Whatever a forge answers to everything, what is believed is whole.
func FuzzAnswers(f *testing.F) {
	for _, text := range []string{
		`{}`, `[]`, `null`, `{"number": 7}`, `[{"sha": "` + head + `", "filename": "x", "type": "pull_push"}]`,
		`{"number": 7, "state": "closed", "merged": true, "merged_at": "2026-11-20T12:00:00Z", "merge_commit_sha": "` + head + `", "user": {"id": 1}, "base": {"label": "main", "ref": "main"}, "head": {"label": "x", "ref": "x", "sha": "` + head + `"}}`,
		`{"name": "main", "protected": true, "effective_branch_protection_name": "main", "rule_name": "main"}`,
	} {
		f.Add(text)
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
			p, err := c.PullRequest(t.Context(), 7)
			if err == nil && (p.Number != 7 || len(p.Head) < 40 || p.Merged && len(p.MergeCommit) < 40) {
				t.Errorf("%+v", p)
			}
			all, err := c.PullRequests(t.Context(), "main", time.Time{})
			for _, p := range all {
				if err != nil || p.Base != "main" {
					t.Errorf("%+v, %v", p, err)
				}
			}
			known := &forge.PullRequest{Number: 7, Head: head, Branch: "x", HeadRepo: "acme/access", Author: forge.User{ID: 1}}
			if by, err := c.Contributors(t.Context(), known, nil); err == nil && !by.Has(1) {
				t.Error("the author is no contributor")
			}
			_, _ = c.Files(t.Context(), 7)
			_, _ = c.MergedAs(t.Context(), head)
			_, _ = c.Protection(t.Context(), "main")
		}
	})
}
