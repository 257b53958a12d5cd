package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
)

// Whatever a pull request is, nothing of it is merged unless it is one of this repository's branches into the branch in force, at a commit
// that is here to be judged. What becomes of one that is, is played on a real Gitea (cmd/demo).
func TestMergeRefuses(t *testing.T) {
	w := newWorkplace(t)
	head := w.git("rev-parse", "HEAD")
	pull := func(change func(p map[string]any)) map[string]any {
		p := map[string]any{
			"number": 7, "state": "open", "user": map[string]any{"id": 3, "login": "alice"},
			"base": map[string]any{"label": "main", "ref": "main", "sha": head},
			"head": map[string]any{"label": "request/x", "ref": "request/x", "sha": head, "repo": map[string]any{"full_name": "acme/access"}},
		}
		change(p)
		return p
	}
	var mu sync.Mutex
	var answer map[string]any
	posted := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodGet {
			posted++
		}
		if r.URL.Path != "/api/v1/repos/acme/access/pulls/7" {
			http.NotFound(rw, r)
			return
		}
		json.NewEncoder(rw).Encode(answer)
	}))
	defer server.Close()
	path := w.path("access/" + reviews.ConfigPath)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "spec:\n", "spec:\n  forge: {kind: gitea, url: "+server.URL+", repository: acme/access}\n", 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.git("commit", "--quiet", "--all", "--message", "forge")
	w.git("remote", "add", "origin", server.URL+"/acme/access.git")
	t.Setenv("GITEA_TOKEN", "the-token-of-the-job")
	t.Setenv("GITHUB_REF", "")
	for want, change := range map[string]func(map[string]any){
		"is not open":   func(p map[string]any) { p["state"] = "closed" },
		"goes to other": func(p map[string]any) { p["base"].(map[string]any)["label"] = "other" },
		"comes from another repo": func(p map[string]any) {
			p["head"].(map[string]any)["repo"] = map[string]any{"full_name": "mallory/access"}
		},
		"comes from another repositor": func(p map[string]any) { p["head"].(map[string]any)["repo"] = nil },
		"is not in this clone":         func(p map[string]any) { p["head"].(map[string]any)["sha"] = strings.Repeat("1", 40) },
		"answers with pull request 8":  func(p map[string]any) { p["number"] = 8 },
		"which is no commit":           func(p map[string]any) { p["head"].(map[string]any)["sha"] = "main" },
	} {
		answer = pull(change)
		out, errOut, code := w.run(configuredForge, "check", "--base", "HEAD", "--merge", "7")
		if code == exitOK || !strings.Contains(errOut, want) || strings.Contains(out+errOut, "the-token-of-the-job") {
			t.Errorf("%d %s%s; want %q", code, out, errOut, want)
		}
	}
	answer = pull(func(map[string]any) {})
	for want, args := range map[string][]string{
		"is for the job of a pull request":   {"--merge", "auto"},
		"write the number of a pull request": {"--merge", "main"},
		"without --ref and --head":           {"--merge", "7", "--head", "HEAD"},
	} {
		if _, errOut, code := w.run(configuredForge, append([]string{"check", "--base", "HEAD"}, args...)...); code != exitUsage || !strings.Contains(errOut, want) {
			t.Errorf("%v: %d %s", args, code, errOut)
		}
	}
	// A reference that is not the job's own is not taken for a number.
	t.Setenv("GITHUB_REF", "refs/heads/refs/pull/7/head")
	if _, errOut, code := w.run(configuredForge, "check", "--base", "HEAD", "--merge", "auto"); code != exitUsage {
		t.Errorf("%d %s", code, errOut)
	}
	t.Setenv("GITEA_TOKEN", "")
	if _, errOut, code := w.run(configuredForge, "check", "--base", "HEAD", "--merge", "7"); code == exitOK || !strings.Contains(errOut, "--merge needs a forge") {
		t.Errorf("without a token: %d %s", code, errOut)
	}
	if posted > 0 {
		t.Errorf("the forge was told to do something %d times", posted)
	}
}

// Only what the base approves by itself, all of it, and nothing beside it.
func TestMergeWantsAllApprovedAutomatically(t *testing.T) {
	const a, b = "reviews/db/a.yaml", "reviews/db/b.yaml"
	pending := []reviews.Pending{{Path: b}}
	for _, c := range []struct {
		report ci.Report
		paths  []string
		want   string // "": merged
	}{
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a}, ""},
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a, a + ".sigs/user_bob.00.sig"}, ""}, // a renewal takes old signatures out
		{ci.Report{OK: true, Automatic: []string{a, b}}, []string{a, b}, ""},
		{ci.Report{OK: false, Automatic: []string{a}}, []string{a}, "errors"},
		{ci.Report{OK: true, Automatic: []string{a}, Pending: pending}, []string{a, b}, b + " needs the approval of people"},
		{ci.Report{OK: true}, []string{a}, "no auto_approve rule"},
		{ci.Report{OK: true}, nil, "no auto_approve rule"},
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a, b}, "also changes " + b}, // signed by people, or deleted
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a, b + ".sigs/user_bob.00.sig"}, "also changes " + b},
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a, ".github/workflows/sallyport.yml"}, "also changes .github"},
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a, "policies/guardrails.rego"}, "also changes policies"},
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a, "connections/db.catalog.json"}, "also changes connections"},
		{ci.Report{OK: true, Automatic: []string{a}}, []string{a, "Reviews/db/a.yaml"}, "also changes Reviews"},
	} {
		m := &mergeJob{report: &c.report, paths: c.paths}
		if got := m.refusal(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v %v: %q, want %q", c.report, c.paths, got, c.want)
		}
	}
}

// Approvals on the forge are counted as sync counts them.
func TestForgeApprovalsAreCounted(t *testing.T) {
	config := &reviews.Config{}
	config.Spec.Approvals = []reviews.ApprovalRule{
		{Mode: "forge", Threshold: 2, Groups: []string{"reviewers"}, OneOf: []string{"security"}},
		{Mode: "signature", Threshold: 1, Groups: []string{"reviewers"}},
		{Mode: "forge", Threshold: 1, Groups: []string{"reviewers"}, Bots: true},
	}
	root := &reviews.Root{}
	for i, name := range []string{"user:bob", "user:carol", "user:dan", "agent:bot"} {
		root.Spec.Principals = append(root.Spec.Principals, reviews.RootPrincipal{Name: name, Forge: map[string]int64{"gitea": int64(i + 1)}})
	}
	root.Spec.Principals = append(root.Spec.Principals, reviews.RootPrincipal{Name: "user:eve"}) // without an account
	root.Spec.Groups = map[string][]string{"reviewers": {"user:bob", "user:carol", "user:eve", "agent:bot"}, "security": {"user:dan"}}
	user := func(ids ...int64) (all []onForge.User) {
		for _, id := range ids {
			all = append(all, onForge.User{ID: id, Bot: id == 4})
		}
		return all
	}
	const commit = "c"
	for name, c := range map[string]struct {
		rule int
		have []string // signatures
		word *forgeWord
		want string // who has, "met" when that is enough
	}{
		"nobody":                         {0, nil, &forgeWord{kind: "gitea", head: commit}, "[]"},
		"one of two":                     {0, nil, &forgeWord{kind: "gitea", head: commit, approved: user(1)}, "[user:bob]"},
		"two, none of security":          {0, nil, &forgeWord{kind: "gitea", head: commit, approved: user(1, 2)}, "[user:bob user:carol]"},
		"one and security":               {0, nil, &forgeWord{kind: "gitea", head: commit, approved: user(1, 3)}, "[user:bob user:dan]"},
		"two and security":               {0, nil, &forgeWord{kind: "gitea", head: commit, approved: user(1, 2, 3)}, "met"},
		"a signature and approvals":      {0, []string{"user:eve"}, &forgeWord{kind: "gitea", head: commit, approved: user(1, 3)}, "met"},
		"another commit":                 {0, nil, &forgeWord{kind: "gitea", head: "d", approved: user(1, 2, 3)}, "[]"},
		"another forge":                  {0, nil, &forgeWord{kind: "github", head: commit, approved: user(1, 2, 3)}, "[]"},
		"a stranger, and no account":     {0, nil, &forgeWord{kind: "gitea", head: commit, approved: user(99, 0)}, "[]"},
		"a signer who had a hand in it":  {0, []string{"user:bob"}, &forgeWord{kind: "gitea", head: commit, took: user(1), approved: user(2, 3)}, "[user:carol user:dan]"},
		"only signatures count":          {1, nil, &forgeWord{kind: "gitea", head: commit, approved: user(1)}, "[]"},
		"a bot where bots count":         {2, nil, &forgeWord{kind: "gitea", head: commit, approved: user(4)}, "met"},
		"a bot where bots do not count":  {0, nil, &forgeWord{kind: "gitea", head: commit, approved: user(1, 3, 4)}, "[user:bob user:dan]"},
		"the forge says nothing of it":   {0, []string{"user:bob"}, nil, "[user:bob]"},
		"twice the same is one approval": {0, nil, &forgeWord{kind: "gitea", head: commit, approved: user(1, 1, 3)}, "[user:bob user:dan]"},
	} {
		r := config.Spec.Approvals[c.rule]
		need := reviews.Need{Rule: fmt.Sprintf("approvals[%d]", c.rule), Threshold: r.Threshold, Groups: r.Groups, OneOf: r.OneOf, Have: slices.Clone(c.have), Eligible: []string{}}
		for _, p := range root.Spec.Principals {
			if !slices.Contains(c.have, p.Name) {
				need.Eligible = append(need.Eligible, p.Name)
			}
		}
		tree := &reviews.Tree{Config: config, Root: root, Pending: []reviews.Pending{{Path: "x", Needs: []reviews.Need{need}}}}
		p := &proposal{commit: commit, after: tree, rules: tree, all: tree}
		p.hear(c.word)
		got := "met"
		if len(tree.Pending) > 0 {
			got = fmt.Sprint(tree.Pending[0].Needs[0].Have)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
