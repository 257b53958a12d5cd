//go:build forge

package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews/forge"
)

// shared is the one Gitea of this test process; it ends with the process.
var shared struct {
	once   sync.Once
	server *peers.GiteaServer
	users  map[string]peers.GiteaUser
	err    error
}

// place is a repository of one test on the shared Gitea. root owns it; alice, bob, carol and mallory may write to it.
type place struct {
	t    *testing.T
	s    *peers.GiteaServer
	user map[string]peers.GiteaUser
	name string
	git  *peers.Tool
	dir  string // a clone
}

func newPlace(t *testing.T) *place {
	t.Helper()
	peers.IsolateEnv(t)
	shared.once.Do(func() {
		ctx := context.WithoutCancel(t.Context())
		if shared.server, shared.err = peers.Gitea(ctx, nil); shared.err != nil {
			return
		}
		shared.users = map[string]peers.GiteaUser{"root": shared.server.Admin}
		for _, name := range []string{"alice", "bob", "carol", "mallory", "robot"} {
			if shared.users[name], shared.err = shared.server.NewUser(ctx, name); shared.err != nil {
				return
			}
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	git, err := peers.Git(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, s: shared.server, user: shared.users, name: strings.ToLower(t.Name()), git: git, dir: filepath.Join(t.TempDir(), "clone")}
	p.call("root", "POST", "user/repos", map[string]any{"name": p.name, "auto_init": true, "default_branch": "main", "private": true}, nil)
	for _, who := range []string{"alice", "bob", "carol", "mallory", "robot"} {
		p.call("root", "PUT", p.path("collaborators/"+who), map[string]string{"permission": "write"}, nil)
	}
	p.run("clone", "--quiet", p.remote("root"), p.dir)
	return p
}

func (p *place) path(rest string) string { return "repos/root/" + p.name + "/" + rest }

func (p *place) remote(who string) string {
	u := p.user[who]
	return strings.Replace(p.s.URL, "//", "//"+u.Name+":"+u.Token+"@", 1) + "/root/" + p.name + ".git"
}

func (p *place) try(who, method, path string, body, answer any) error {
	return p.s.Call(p.t.Context(), p.user[who], method, path, body, answer)
}

func (p *place) call(who, method, path string, body, answer any) {
	p.t.Helper()
	if err := p.try(who, method, path, body, answer); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) run(args ...string) string {
	p.t.Helper()
	dir := p.dir
	if args[0] == "clone" {
		dir = ""
	}
	out, err := p.git.Run(p.t.Context(), dir, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// push commits a file on a branch as anybody, and pushes it as who. A new branch starts at main. force rewrites the branch from main.
func (p *place) push(who, branch, file, text, author string, force bool) string {
	p.t.Helper()
	p.run("fetch", "--quiet", p.remote("root"), "+refs/heads/*:refs/remotes/origin/*")
	start := "origin/main"
	if !force {
		if _, err := p.git.Run(p.t.Context(), p.dir, "rev-parse", "--verify", "--quiet", "origin/"+branch); err == nil {
			start = "origin/" + branch
		}
	}
	p.run("checkout", "--quiet", "-B", branch, start)
	if err := os.MkdirAll(filepath.Dir(filepath.Join(p.dir, file)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, file), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.run("add", "--", file)
	as := p.git.With("GIT_AUTHOR_NAME="+author, "GIT_AUTHOR_EMAIL="+author+"@example.com", "GIT_COMMITTER_NAME="+author, "GIT_COMMITTER_EMAIL="+author+"@example.com")
	if _, err := as.Run(p.t.Context(), p.dir, "commit", "--quiet", "-m", "change "+file); err != nil {
		p.t.Fatal(err)
	}
	p.run("push", "--quiet", "--force", p.remote(who), branch)
	return p.run("rev-parse", "HEAD")
}

func (p *place) client(who string) *forge.Client {
	p.t.Helper()
	c, err := forge.Open(forge.Options{Kind: forge.Gitea, Remote: p.s.URL + "/root/" + p.name + ".git", URL: p.s.URL, Token: forge.Token(p.user[who].Token)})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *place) pull(number int) *forge.PullRequest {
	p.t.Helper()
	got, err := p.client("robot").PullRequest(p.t.Context(), number)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// open opens a pull request through the client.
func (p *place) open(who, branch string) *forge.PullRequest {
	p.t.Helper()
	got, err := p.client(who).Open(p.t.Context(), forge.New{Base: "main", Branch: branch, Title: "access: " + branch, Body: "please"})
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// review gives a review in the forge, as a person does.
func (p *place) review(who string, number int, event string) (id int64) {
	p.t.Helper()
	var made struct{ ID int64 }
	p.call(who, "POST", p.path(fmt.Sprintf("pulls/%d/reviews", number)), map[string]string{"event": event, "body": "I looked"}, &made)
	return made.ID
}

// word is one account's last word, the zero Review for none.
func (p *place) word(who string, number int) forge.Review {
	p.t.Helper()
	all, err := p.client("robot").Reviews(p.t.Context(), number)
	if err != nil {
		p.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(r forge.Review) bool { return r.User.ID == p.user[who].ID })
	if i < 0 {
		return forge.Review{}
	}
	return all[i]
}

func (p *place) contributors(pr *forge.PullRequest) *forge.Contributors {
	p.t.Helper()
	by, err := p.client("robot").Contributors(p.t.Context(), pr, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return by
}

// eventually waits for what Gitea does behind an answer.
func (p *place) eventually(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not in 20 s", what)
		}
	}
}

// merge merges in the forge, as a person does. Gitea wants to be asked again while it looks at a new head.
func (p *place) merge(who string, number int, how, head string) {
	p.t.Helper()
	p.eventually("merge", func() bool {
		err := p.try(who, "POST", p.path(fmt.Sprintf("pulls/%d/merge", number)), map[string]string{"Do": how, "head_commit_id": head}, nil)
		var refused *peers.GiteaError
		if errors.As(err, &refused) && refused.Status == http.StatusMethodNotAllowed {
			return false
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return true
	})
}

func TestGiteaApproval(t *testing.T) {
	p := newPlace(t)
	first := p.push("alice", "request/orders", "reviews/db/orders.yaml", "a: 1\n", "alice", false)
	pr := p.open("alice", "request/orders")
	if pr.Head != first || pr.Author.ID != p.user["alice"].ID || !pr.Open || pr.Merged || pr.Base != "main" || pr.Branch != "request/orders" || pr.MergeCommit != "" {
		t.Fatalf("opened %+v", pr)
	}
	if again := p.open("alice", "request/orders"); again.Number != pr.Number {
		t.Errorf("opened a second one: %d and %d", pr.Number, again.Number)
	}
	by := p.contributors(pr)

	// Approving what one opened is refused by the forge, and would not count.
	var refused *peers.GiteaError
	err := p.try("alice", "POST", p.path(fmt.Sprintf("pulls/%d/reviews", pr.Number)), map[string]string{"event": "APPROVED"}, nil)
	if !errors.As(err, &refused) || refused.Status != http.StatusUnprocessableEntity {
		t.Errorf("self-approval: %v", err)
	}

	// A review that mallory has begun is counted for others, but not shown.
	p.call("mallory", "POST", p.path(fmt.Sprintf("pulls/%d/reviews", pr.Number)), map[string]string{"body": "not yet"}, nil)
	if words, err := p.client("robot").Reviews(t.Context(), pr.Number); err != nil || len(words) != 0 {
		t.Errorf("%+v, %v", words, err)
	}

	// A request for a review is listed among the reviews, and is none.
	p.call("alice", "POST", p.path(fmt.Sprintf("pulls/%d/requested_reviewers", pr.Number)), map[string]any{"reviewers": []string{"bob", "carol"}}, nil)
	var listed []struct {
		State    string
		CommitID string `json:"commit_id"`
	}
	p.call("robot", "GET", p.path(fmt.Sprintf("pulls/%d/reviews", pr.Number)), nil, &listed)
	if len(listed) != 2 || listed[0].State != "REQUEST_REVIEW" || listed[0].CommitID != "" {
		t.Fatalf("Gitea lists %+v: this test no longer shows what it is for", listed)
	}
	if r := p.word("bob", pr.Number); r.State != "" {
		t.Errorf("a request counts: %+v", r)
	}

	// A comment is no word either.
	p.review("bob", pr.Number, "COMMENT")
	if r := p.word("bob", pr.Number); r.State != "" {
		t.Errorf("a comment counts: %+v", r)
	}
	p.review("bob", pr.Number, "APPROVED")
	r := p.word("bob", pr.Number)
	if err := r.Approves(pr, by); err != nil || r.Commit != first || r.Submitted.IsZero() || r.User.Bot {
		t.Errorf("approval %+v: %v", r, err)
	}
	p.review("bob", pr.Number, "COMMENT")
	if err := p.word("bob", pr.Number).Approves(pr, by); err != nil {
		t.Errorf("a comment took the approval back: %v", err)
	}

	// A push voids it at once, whatever the forge has noticed so far.
	second := p.push("alice", "request/orders", "reviews/db/orders.yaml", "a: 2\n", "alice", false)
	now := p.pull(pr.Number)
	if now.Head != second {
		t.Fatalf("the head is %s, pushed %s", now.Head, second)
	}
	if err := p.word("bob", pr.Number).Approves(now, by); err == nil || !strings.Contains(err.Error(), first[:12]) {
		t.Errorf("an approval of the old commit: %v", err)
	}
	p.eventually("stale", func() bool { return p.word("bob", pr.Number).Stale })

	// Approved anew, refused by carol, whose refusal is dismissed: that is no approval of hers.
	p.review("bob", pr.Number, "APPROVED")
	if err := p.word("bob", pr.Number).Approves(now, by); err != nil {
		t.Errorf("approved anew: %v", err)
	}
	p.review("carol", pr.Number, "APPROVED")
	no := p.review("carol", pr.Number, "REQUEST_CHANGES")
	if r := p.word("carol", pr.Number); r.State != forge.ChangesRequested || r.Approves(now, by) == nil {
		t.Errorf("refused: %+v", r)
	}
	p.call("root", "POST", p.path(fmt.Sprintf("pulls/%d/reviews/%d/dismissals", pr.Number, no)), map[string]string{"message": "no"}, nil)
	if r := p.word("carol", pr.Number); r.State != forge.Dismissed || r.Approves(now, by) == nil {
		t.Errorf("a dismissed refusal revived the approval before it: %+v", r)
	}
	yes := p.word("bob", pr.Number).ID
	p.call("root", "POST", p.path(fmt.Sprintf("pulls/%d/reviews/%d/dismissals", pr.Number, yes)), map[string]string{"message": "no"}, nil)
	if r := p.word("bob", pr.Number); r.State != forge.Dismissed || r.Approves(now, by) == nil {
		t.Errorf("a dismissed approval counts: %+v", r)
	}
	if files, err := p.client("robot").Files(t.Context(), pr.Number); err != nil || !slices.Equal(files, []string{"reviews/db/orders.yaml"}) {
		t.Errorf("files %v, %v", files, err)
	}
}

// Mallory writes the change, signs it with other names, has alice open the pull request, and approves it.
func TestGiteaPusherHidesBehindNames(t *testing.T) {
	p := newPlace(t)
	p.push("mallory", "request/x", "reviews/db/x.yaml", "a: 1\n", "bob", false)
	p.push("carol", "request/x", "reviews/db/x.yaml", "a: 2\n", "stranger", false)
	pr := p.open("alice", "request/x")
	p.review("mallory", pr.Number, "APPROVED")
	var by *forge.Contributors
	p.eventually("the pushes are in the activities", func() bool {
		by = p.contributors(pr)
		return by.PushersKnown
	})
	if err := p.word("mallory", pr.Number).Approves(pr, by); err == nil || !strings.Contains(err.Error(), "pushed") {
		t.Errorf("the pusher's approval: %v", err)
	}
	var ids []int64
	for _, u := range by.Users {
		ids = append(ids, u.ID)
	}
	want := []int64{p.user["alice"].ID, p.user["bob"].ID, p.user["carol"].ID, p.user["mallory"].ID}
	slices.Sort(want)
	if !slices.Equal(ids, want) || len(by.Unknown) != 1 || by.Unknown[0] != pr.Head {
		t.Errorf("contributors %v, unknown %v; want %v and the stranger's commit", ids, by.Unknown, want)
	}
	// A push after the pull request was opened counts as well.
	p.push("bob", "request/x", "reviews/db/x.yaml", "a: 3\n", "alice", false)
	p.eventually("bob's push", func() bool { return p.contributors(p.pull(pr.Number)).Has(p.user["bob"].ID) })
}

// Mallory's branch is opened as alice's pull request, removed, and made anew by alice, who pushes what mallory wrote.
func TestGiteaBranchMadeAnew(t *testing.T) {
	p := newPlace(t)
	head := p.push("mallory", "request/x", "reviews/db/x.yaml", "a: 1\n", "alice", false)
	pr := p.open("alice", "request/x")
	p.eventually("mallory's push is in the activities", func() bool { return p.contributors(pr).PushersKnown })
	p.run("push", "--quiet", p.remote("alice"), ":request/x")
	p.eventually("the pull request is closed", func() bool { return !p.pull(pr.Number).Open })
	time.Sleep(1100 * time.Millisecond) // activities are in whole seconds
	p.run("push", "--quiet", p.remote("alice"), head+":refs/heads/request/x")
	p.eventually("the branch is there again", func() bool { return p.try("alice", "GET", p.path("branches/request/x"), nil, nil) == nil })
	p.call("alice", "PATCH", p.path(fmt.Sprintf("pulls/%d", pr.Number)), map[string]string{"state": "open"}, nil)
	p.review("mallory", pr.Number, "APPROVED")
	now := p.pull(pr.Number)
	p.eventually("mallory is known as a pusher", func() bool {
		by := p.contributors(now)
		return by.PushersKnown && by.Has(p.user["mallory"].ID)
	})
	if err := p.word("mallory", now.Number).Approves(now, p.contributors(now)); err == nil {
		t.Error("the pusher's approval counts")
	}
}

// Of a fork the repository knows no activities; its pushes are in the pull request's history only, and those before it nowhere.
func TestGiteaFork(t *testing.T) {
	p := newPlace(t)
	p.call("alice", "POST", p.path("forks"), map[string]string{}, nil)
	p.call("alice", "PUT", "repos/alice/"+p.name+"/collaborators/mallory", map[string]string{"permission": "write"}, nil)
	p.eventually("the fork", func() bool { return p.try("alice", "GET", "repos/alice/"+p.name+"/branches/main", nil, nil) == nil })
	push := func(who, text string) string {
		p.run("checkout", "--quiet", "-B", "x")
		p.run("-c", "user.name=alice", "commit", "--quiet", "--allow-empty", "-m", text)
		p.run("push", "--quiet", strings.Replace(p.remote(who), "/root/"+p.name, "/alice/"+p.name, 1), "x")
		return p.run("rev-parse", "HEAD")
	}
	push("alice", "one")
	var made struct{ Number int }
	p.call("alice", "POST", p.path("pulls"), map[string]string{"base": "main", "head": "alice:x", "title": "from a fork"}, &made)
	later := push("mallory", "two")
	p.eventually("the push", func() bool { return p.pull(made.Number).Head == later })
	p.review("mallory", made.Number, "APPROVED")
	var by *forge.Contributors
	pr := p.pull(made.Number)
	p.eventually("the push is in the history", func() bool {
		by = p.contributors(pr)
		return by.Has(p.user["mallory"].ID)
	})
	if by.PushersKnown || pr.HeadRepo == "root/"+p.name {
		t.Errorf("a fork of which all is known: %+v of %+v", by, pr)
	}
	if err := p.word("mallory", made.Number).Approves(pr, by); err == nil {
		t.Error("the pusher's approval counts")
	}
	// A branch of that name in the repository itself is another one.
	p.push("carol", "x", "a", "1", "carol", false)
	if mine := p.open("carol", "x"); mine.Number == made.Number {
		t.Error("the fork's pull request is taken for ours")
	}
}

func TestGiteaMerges(t *testing.T) {
	p := newPlace(t)
	start := time.Now().Add(-time.Minute)
	heads := map[int]string{}
	for _, how := range []string{"merge", "squash", "rebase"} {
		p.push("alice", how, how+"/a", "1", "alice", false)
		p.push("alice", how, how+"/b", "1", "alice", false)
		pr := p.open("alice", how)
		p.review("bob", pr.Number, "APPROVED")
		heads[pr.Number] = pr.Head
		p.merge("carol", pr.Number, how, pr.Head)
		merged := p.pull(pr.Number)
		if !merged.Merged || merged.Open || merged.Head != pr.Head || merged.MergedAt.Before(start) {
			t.Errorf("%s: %+v", how, merged)
		}
		p.run("fetch", "--quiet", p.remote("root"), "+refs/heads/*:refs/remotes/origin/*")
		if tip := p.run("rev-parse", "origin/main"); merged.MergeCommit != tip {
			t.Errorf("%s: merge commit %s, main is at %s", how, merged.MergeCommit, tip)
		}
		as, err := p.client("robot").MergedAs(t.Context(), merged.MergeCommit)
		if err != nil || len(as) != 1 || as[0].Number != pr.Number || as[0].Head != pr.Head {
			t.Errorf("%s: merged as %+v, %v", how, as, err)
		}
		if err := p.word("bob", pr.Number).Approves(merged, p.contributors(merged)); err != nil {
			t.Errorf("%s: the approval is lost by the merge: %v", how, err)
		}
		// The branch lives on: what is pushed to it now was not merged.
		later := p.push("mallory", how, how+"/c", "1", "alice", false)
		var raw struct{ Head struct{ SHA string } }
		p.call("robot", "GET", p.path(fmt.Sprintf("pulls/%d", pr.Number)), nil, &raw)
		if raw.Head.SHA != later {
			t.Fatalf("%s: Gitea says the head is %s: this test no longer shows what it is for", how, raw.Head.SHA)
		}
		if after := p.pull(pr.Number); after.Head != pr.Head {
			t.Errorf("%s: a push after the merge moved the head to %s", how, after.Head)
		}
	}
	none, err := p.client("robot").MergedAs(t.Context(), heads[1])
	if err != nil || len(none) != 0 {
		t.Errorf("a commit that merged nothing: %+v, %v", none, err)
	}
	p.push("alice", "other-base", "x", "1", "alice", false)
	p.push("alice", "onto-other", "y", "1", "alice", false)
	if _, err := p.client("alice").Open(t.Context(), forge.New{Base: "other-base", Branch: "onto-other", Title: "elsewhere"}); err != nil {
		t.Fatal(err)
	}
	p.push("alice", "waiting", "z", "1", "alice", false)
	waiting := p.open("alice", "waiting")
	list := func(since time.Time) string {
		all, err := p.client("robot").PullRequests(t.Context(), "main", since)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, pr := range all {
			if pr.Merged && pr.Head != heads[pr.Number] {
				t.Errorf("pull request %d merged %s, listed as %s", pr.Number, heads[pr.Number], pr.Head)
			}
			out = append(out, fmt.Sprint(pr.Number, pr.Merged))
		}
		return strings.Join(out, ", ")
	}
	if got, want := list(start), fmt.Sprintf("1 true, 2 true, 3 true, %d false", waiting.Number); got != want {
		t.Errorf("listed %s, want %s", got, want)
	}
	if got, want := list(time.Now().Add(time.Hour)), fmt.Sprintf("%d false", waiting.Number); got != want {
		t.Errorf("merged in the future: listed %s, want %s", got, want)
	}
}

// More than one page of everything; the word that counts is on the last.
func TestGiteaPages(t *testing.T) {
	p := newPlace(t)
	const n = 43 // three pages of 20
	p.push("alice", "one", "reviews/db/0.yaml", "a", "alice", false)
	pr := p.open("alice", "one")
	p.review("bob", pr.Number, "APPROVED")
	for range n {
		p.review("carol", pr.Number, "COMMENT")
	}
	p.review("bob", pr.Number, "REQUEST_CHANGES")
	if r := p.word("bob", pr.Number); r.State != forge.ChangesRequested {
		t.Errorf("bob's word is %+v: the second page is missing", r)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(p.dir, fmt.Sprintf("f%d", i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.run("add", ".")
	p.push("alice", "one", "reviews/db/0.yaml", "b", "alice", false)
	p.eventually("files", func() bool {
		files, err := p.client("robot").Files(t.Context(), pr.Number)
		if err != nil {
			t.Fatal(err)
		}
		return len(files) == n+1
	})
	var pushed []string
	for i := range 21 {
		branch := fmt.Sprintf("many-%d", i)
		p.run("checkout", "--quiet", "-B", branch, "origin/main")
		p.run("commit", "--quiet", "--allow-empty", "-m", branch)
		pushed = append(pushed, branch)
	}
	p.run(append([]string{"push", "--quiet", p.remote("alice")}, pushed...)...)
	for _, branch := range pushed {
		p.call("alice", "POST", p.path("pulls"), map[string]string{"base": "main", "head": branch, "title": branch}, nil)
	}
	all, err := p.client("robot").PullRequests(t.Context(), "main", time.Now())
	if err != nil || len(all) != 22 {
		t.Errorf("%d open pull requests, want 22: %v", len(all), err)
	}
}

func TestGiteaCommentAndStatus(t *testing.T) {
	p := newPlace(t)
	head := p.push("alice", "x", "a", "1", "alice", false)
	pr := p.open("alice", "x")
	type comment struct {
		ID   int64
		Body string
		User struct{ Login string }
	}
	list := func() (out []comment) {
		p.call("robot", "GET", p.path(fmt.Sprintf("issues/%d/comments", pr.Number)), nil, &out)
		return out[21:]
	}
	for range 21 { // more than a page
		p.call("carol", "POST", p.path(fmt.Sprintf("issues/%d/comments", pr.Number)), map[string]string{"body": "hm"}, nil)
	}
	// Mallory puts our marker on a comment of hers; it is neither edited nor taken for ours.
	forged := "<!-- sallyport:verdict -->\nall is well"
	p.call("mallory", "POST", p.path(fmt.Sprintf("issues/%d/comments", pr.Number)), map[string]string{"body": forged}, nil)
	for _, text := range []string{"first", "first", "second", strings.Repeat("é", 70000)} {
		if err := p.client("robot").Comment(t.Context(), pr.Number, "verdict", text); err != nil {
			t.Fatal(err)
		}
		got := list()
		if len(got) != 2 || got[0].Body != forged || got[1].User.Login != "robot" {
			t.Fatalf("after %.9q: %+v", text, got)
		}
		if !strings.Contains(got[1].Body, text) && !(len(text) > 65000 && strings.Contains(got[1].Body, "cut")) {
			t.Errorf("the comment is %.200q", got[1].Body)
		}
	}
	if err := p.client("robot").Comment(t.Context(), pr.Number, "other", "x"); err != nil || len(list()) != 3 {
		t.Errorf("another marker: %v, %d comments", err, len(list()))
	}

	long := strings.Repeat("ä", 200)
	if err := p.client("robot").SetStatus(t.Context(), head, forge.Status{Context: "sallyport/check", Verdict: forge.Failure, Description: long, URL: "https://example.com/x"}); err != nil {
		t.Fatal(err)
	}
	var statuses []struct {
		Context, Status, Description string
		TargetURL                    string `json:"target_url"`
	}
	p.call("robot", "GET", p.path("commits/"+head+"/statuses"), nil, &statuses)
	if len(statuses) != 1 || statuses[0].Status != "failure" || statuses[0].TargetURL != "https://example.com/x" || len([]rune(statuses[0].Description)) != 140 {
		t.Errorf("statuses %+v", statuses)
	}
	if err := p.client("robot").Report(t.Context(), forge.Check{}); !errors.Is(err, forge.ErrNoChecks) {
		t.Errorf("check run: %v", err)
	}
}

func TestGiteaProtection(t *testing.T) {
	p := newPlace(t)
	weak := func(who string) string {
		got, err := p.client(who).Protection(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(got.Weaknesses(2, "sallyport/check"), "\n")
	}
	has := func(got string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(got, w) {
				t.Errorf("not named: %q in\n%s", w, got)
			}
		}
	}
	has(weak("root"), "without a pull request", "2 approvals, and 0 are required", "does not take the approval back", "over a reviewer's refusal", "force-pushed", "deleted", "sallyport/check is not required")

	rule := map[string]any{
		"rule_name": "m*", "enable_push": true, "enable_push_whitelist": true, "push_whitelist_usernames": []string{"mallory"},
		"required_approvals": 1, "enable_force_push": true, "unprotected_file_patterns": "docs/**",
	}
	p.call("root", "POST", p.path("branch_protections"), rule, nil)
	has(weak("root"), "2 approvals, and 1 are required", "force-pushed", "user mallory pushes directly", "administrators merge", "docs/**")
	if got := weak("alice"); !strings.Contains(got, "not to be seen") {
		t.Errorf("alice, who may not see the rule, is told\n%s", got)
	}

	p.call("root", "PATCH", p.path("branch_protections/m*"), map[string]any{
		"enable_push": false, "required_approvals": 2, "enable_force_push": false, "unprotected_file_patterns": "", "dismiss_stale_approvals": true,
		"block_on_rejected_reviews": true, "block_admin_merge_override": true, "enable_status_check": true, "status_check_contexts": []string{"sallyport/check"},
	}, nil)
	if got := weak("root"); got != "" {
		t.Errorf("protected, and yet\n%s", got)
	}
}

func TestGiteaRefusals(t *testing.T) {
	p := newPlace(t)
	for name, o := range map[string]forge.Options{
		"wrong token":       {Remote: p.s.URL + "/root/" + p.name, Token: "0123456789abcdef0123456789abcdef01234567"},
		"no such repo":      {Remote: p.s.URL + "/root/none", Token: forge.Token(p.user["bob"].Token)},
		"no such user":      {Remote: p.s.URL + "/none/none", Token: forge.Token(p.user["bob"].Token)},
		"not the API there": {Remote: p.s.URL + "/root/" + p.name, Token: forge.Token(p.user["bob"].Token), URL: p.s.URL + "/nowhere"},
	} {
		o.Kind = forge.Gitea
		if o.URL == "" {
			o.URL = p.s.URL
		}
		c, err := forge.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.PullRequests(t.Context(), "main", time.Now())
		if err == nil || strings.Contains(err.Error(), string(o.Token)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.client("bob").PullRequest(t.Context(), 99); err == nil {
		t.Error("a pull request that is not there")
	}
	if _, err := p.client("bob").Reviews(t.Context(), 99); err == nil {
		t.Error("reviews of a pull request that is not there")
	}
}

// What a real Gitea sends is understood, and only with the right secret.
func TestGiteaHooks(t *testing.T) {
	p := newPlace(t)
	secret := []byte("a secret of this hook")
	events := make(chan forge.Event, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := http.MaxBytesReader(w, r.Body, 10<<20)
		r.Body = body
		e, err := forge.ReadHook(r, secret)
		if err != nil {
			t.Error(err)
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		events <- *e
	}))
	defer server.Close()
	p.call("root", "POST", p.path("hooks"), map[string]any{
		"type": "gitea", "active": true, "events": []string{"push", "pull_request", "pull_request_review_approved", "pull_request_review_rejected"},
		"config": map[string]string{"url": server.URL, "content_type": "json", "secret": string(secret)},
	}, nil)
	wait := func(want forge.Event) {
		t.Helper()
		timeout := time.After(20 * time.Second)
		for {
			select {
			case e := <-events:
				if e == want {
					return
				}
			case <-timeout:
				t.Fatalf("no event %+v", want)
			}
		}
	}
	repo := "root/" + p.name
	head := p.push("alice", "x", "a", "1", "alice", false)
	wait(forge.Event{Kind: forge.Pushed, Repo: repo, Branch: "x", Commit: head})
	pr := p.open("alice", "x")
	wait(forge.Event{Kind: forge.Changed, Repo: repo, Branch: "main", Commit: head, Number: pr.Number})
	p.review("bob", pr.Number, "APPROVED")
	wait(forge.Event{Kind: forge.Reviewed, Repo: repo, Branch: "main", Commit: head, Number: pr.Number})
	p.merge("carol", pr.Number, "squash", head)
	wait(forge.Event{Kind: forge.Merged, Repo: repo, Branch: "main", Commit: head, Number: pr.Number})
}

// How CI stands on a commit is each context's last word, over pages.
func TestGiteaStanding(t *testing.T) {
	p := newPlace(t)
	head := p.push("alice", "x", "a", "1", "alice", false)
	stands := func(want string) {
		t.Helper()
		if got, err := p.client("robot").Standing(t.Context(), head); err != nil || got.String() != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	say := func(context string, v forge.Verdict) {
		t.Helper()
		if err := p.client("robot").SetStatus(t.Context(), head, forge.Status{Context: context, Verdict: v}); err != nil {
			t.Fatal(err)
		}
	}
	stands("")
	say("check", forge.Pending)
	stands("CI is running, 0 of 1 done")
	say("check", forge.Failure)
	stands("CI failed: check")
	for i := range 24 { // more than a page
		say(fmt.Sprint("other", i), forge.Success)
	}
	stands("CI failed: check")
	say("check", forge.Success)
	stands("CI passed")
	say("check", forge.Broken)
	stands("CI failed: check")
}

// What is merged is the commit that was judged, and the protection of the branch holds for an administrator's token, too.
func TestGiteaMerge(t *testing.T) {
	p := newPlace(t)
	merge := func(who string, number int, head string) error { return p.client(who).Merge(t.Context(), number, head) }
	first := p.push("alice", "x", "a", "1", "alice", false)
	pr := p.open("alice", "x")
	second := p.push("alice", "x", "a", "2", "alice", false)
	p.eventually("the forge knows the new head", func() bool { return p.pull(pr.Number).Head == second })
	if err := merge("robot", pr.Number, first); err == nil || errors.Is(err, forge.ErrBlocked) || p.pull(pr.Number).Merged {
		t.Errorf("another head than the one that was judged: %v", err)
	}
	if err := merge("robot", pr.Number, second); err != nil {
		t.Fatal(err)
	}
	if got := p.pull(pr.Number); !got.Merged || got.Head != second {
		t.Errorf("merged as %+v", got)
	}
	if err := merge("robot", pr.Number, second); err == nil {
		t.Error("merged twice")
	}

	p.call("root", "POST", p.path("branch_protections"), map[string]any{"rule_name": "main", "enable_push": false, "required_approvals": 1, "dismiss_stale_approvals": true}, nil)
	head := p.push("alice", "y", "b", "1", "alice", false)
	pr = p.open("alice", "y")
	for _, who := range []string{"robot", "root"} { // root could override it
		if err := merge(who, pr.Number, head); !errors.Is(err, forge.ErrBlocked) || p.pull(pr.Number).Merged {
			t.Errorf("%s merges without the approval that the branch wants: %v", who, err)
		}
	}
	p.review("bob", pr.Number, "APPROVED")
	p.call("root", "PATCH", "repos/root/"+p.name, map[string]any{"allow_squash_merge": false}, nil)
	if err := merge("robot", pr.Number, head); err != nil {
		t.Errorf("approved: %v", err)
	}
}
