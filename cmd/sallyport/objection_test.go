package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
)

// Somebody's standing "no" leaves a pull request to people, whatever the rules say and whichever commit it was said of.
func TestMergeHeedsObjections(t *testing.T) {
	head := strings.Repeat("a", 40)
	review := func(id, user int, state, commit string, dismissed bool) map[string]any {
		return map[string]any{"id": id, "user": map[string]any{"id": user, "login": "bob"}, "state": state, "commit_id": commit, "dismissed": dismissed, "submitted_at": "2026-11-24T10:00:0" + string(rune('0'+id)) + "Z"}
	}
	for name, c := range map[string]struct {
		reviews []map[string]any
		want    string // "": an error
	}{
		"no word":                 {[]map[string]any{}, "merged pull request 7"},
		"an objection":            {[]map[string]any{review(1, 7, "REQUEST_CHANGES", head, false)}, "not merged: bob asked for changes"},
		"one to an older commit":  {[]map[string]any{review(1, 7, "REQUEST_CHANGES", strings.Repeat("b", 40), false)}, "not merged: bob asked for changes"},
		"beside an approval":      {[]map[string]any{review(1, 7, "REQUEST_CHANGES", head, false), review(2, 8, "APPROVED", head, false)}, "not merged: bob asked for changes"},
		"dismissed":               {[]map[string]any{review(1, 7, "REQUEST_CHANGES", head, true)}, "merged pull request 7"},
		"taken back":              {[]map[string]any{review(1, 7, "REQUEST_CHANGES", head, false), review(2, 7, "APPROVED", head, false)}, "merged pull request 7"},
		"the list cannot be read": {[]map[string]any{{"id": "x"}}, ""},
	} {
		posts := 0
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost:
				posts++
			case strings.HasSuffix(r.URL.Path, "/pulls/7/reviews"):
				rw.Header().Set("Content-Type", "application/json")
				json.NewEncoder(rw).Encode(c.reviews)
			case strings.HasSuffix(r.URL.Path, "/settings/api"):
				json.NewEncoder(rw).Encode(map[string]any{"max_response_items": 50, "default_paging_num": 50})
			case strings.HasSuffix(r.URL.Path, "/repos/acme/access"):
				json.NewEncoder(rw).Encode(map[string]any{"name": "access", "allow_merge_commits": true, "default_merge_style": "merge"})
			default:
				http.NotFound(rw, r)
			}
		}))
		client, err := onForge.Open(onForge.Options{Kind: onForge.Gitea, Remote: server.URL + "/acme/access.git", URL: server.URL, Token: "t"})
		if err != nil {
			t.Fatal(err)
		}
		m := &mergeJob{client: client, pull: &onForge.PullRequest{Number: 7, Head: head}, report: &ci.Report{OK: true, Automatic: []string{"reviews/db/a.yaml"}}, paths: []string{"reviews/db/a.yaml"}}
		said, err := m.merge(t.Context())
		server.Close()
		if (posts > 0) != strings.HasPrefix(c.want, "merged") || (err != nil) != (c.want == "") || !strings.HasPrefix(said, c.want) {
			t.Errorf("%s: %q, %v, %d orders to merge", name, said, err, posts)
		}
	}
}

// Nobody is named twice: who is to review would be who asks.
func TestInitReviewersAreOthers(t *testing.T) {
	w := newWorkplace(t)
	reviewer := func(name, key string) []string { return []string{"--reviewer", name + "=" + w.path(key)} }
	for _, more := range [][]string{
		reviewer("user:alice", "alice.pub"),
		reviewer("user:alice", "bob.pub"),
		append(reviewer("user:bob", "bob.pub"), reviewer("user:bob", "carol.pub")...),
		append(reviewer("user:lab-reviewer", "bob.pub"), "--lab"),
	} {
		args := append([]string{"init", w.path("again"), "--as", "user:alice", "--key", w.path("alice"), "--keys", w.path("other-keys")}, more...)
		if _, errOut, code := w.run(nil, args...); code != exitUsage || !strings.Contains(errOut, "is there already") {
			t.Errorf("%v: %d %s", more, code, errOut)
		}
	}
}

// A new trust root is judged by the merged one: what the branch brings neither lowers how many have to approve it nor
// says who.
func TestReviewJudgesARootByTheMergedOne(t *testing.T) {
	w := newWorkplace(t)
	root := filepath.Join(w.path("access"), reviews.RootPath)
	write := func(change func(string) string) {
		t.Helper()
		b, err := os.ReadFile(root)
		if err != nil {
			t.Fatal(err)
		}
		text := change(string(b))
		if text == string(b) {
			t.Fatal("nothing changed")
		}
		if err := os.WriteFile(root, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(root + ".sigs"); err != nil {
			t.Fatal(err)
		}
		w.git("add", "--all", "trust")
		w.git("commit", "--quiet", "--message", "root")
	}
	sign := func(name string) {
		t.Helper()
		w.must(nil, "sign", reviews.RootPath, "--as", "user:"+name, "--key", w.path(name))
	}
	// What is merged: two of alice, bob and carol.
	write(func(text string) string {
		text = regexp.MustCompile(`(?m)^  threshold: .*$`).ReplaceAllString(text, "  threshold: 2")
		return regexp.MustCompile(`(?m)^(    root: ).*$`).ReplaceAllString(text, "${1}[\"user:alice\", \"user:bob\", \"user:carol\"]")
	})
	sign("alice")
	sign("bob")
	w.git("switch", "--quiet", "--create", "lower")
	write(func(text string) string {
		return strings.NewReplacer("  version: 1\n", "  version: 2\n", "  threshold: 2", "  threshold: 1").Replace(text)
	})
	sign("alice")
	out := w.must(nil, "review", "lower", "--as", "user:carol")
	if !strings.Contains(out, "threshold of the merged trust root") || strings.Contains(out, "nothing more has to be approved") {
		t.Errorf("one of two:\n%s", out)
	}
	if list := w.must(nil, "review", "--as", "user:carol"); !strings.Contains(list, "lower") {
		t.Errorf("it does not await carol:\n%s", list)
	}
	sign("carol")
	if out := w.must(nil, "review", "lower", "--as", "user:bob"); strings.Contains(out, "threshold of the merged trust root") {
		t.Errorf("two of two:\n%s", out)
	}
	write(func(text string) string { return strings.Replace(text, "  version: 2\n", "  version: 3\n", 1) })
	if out, _, _ := w.run(nil, "review", "lower"); !strings.Contains(out, "version 3 does not follow 1") {
		t.Errorf("a version left out:\n%s", out)
	}
}
