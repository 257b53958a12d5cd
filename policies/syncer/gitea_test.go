//go:build forge

package syncer

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/forge"
)

// TestGiteaPlay plays the road of a pull request on a real Gitea, from the request to the release.
func TestGiteaPlay(t *testing.T) {
	a := newAccess(t)
	s, err := peers.Gitea(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	user := map[string]peers.GiteaUser{"root": s.Admin}
	for _, name := range []string{"alice", "bob", "carol", "robot"} {
		if user[name], err = s.NewUser(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	try := func(who, method, path string, body, answer any) error {
		return s.Call(t.Context(), user[who], method, path, body, answer)
	}
	call := func(who, method, path string, body, answer any) {
		t.Helper()
		if err := try(who, method, path, body, answer); err != nil {
			t.Fatal(err)
		}
	}
	call("root", "POST", "user/repos", map[string]any{"name": "access", "private": true, "default_branch": "main"}, nil)
	const repo = "repos/root/access/"
	for _, name := range []string{"alice", "bob", "carol", "robot"} {
		call("root", "PUT", repo+"collaborators/"+name, map[string]string{"permission": "write"}, nil)
	}
	remote := func(who string) string {
		return strings.Replace(s.URL, "//", "//"+who+":"+user[who].Token+"@", 1) + "/root/access.git"
	}

	// carol and bob have accounts, and their approvals count for reviews.
	attester := newKey(t)
	text := a.root()
	for _, p := range []string{"alice", "bob", "carol"} {
		text = strings.Replace(text, fmt.Sprintf(`"user:%s", keys`, p), fmt.Sprintf(`"user:%s", forge: {gitea: %d}, keys`, p, user[p].ID), 1)
	}
	text += fmt.Sprintf("  attesters: [{key: %q}]\n", line(attester))
	a.write(reviews.RootPath, text)
	a.sign(reviews.RootPath, "user:bob")
	a.pin = digest([]byte(text))
	rules := strings.Replace(config(1), "mode: signature", "mode: forge", 1)
	a.write(reviews.ConfigPath, strings.Replace(rules, "  approvals:", fmt.Sprintf("  forge: {kind: gitea, url: %q, repository: root/access}\n  approvals:", s.URL), 1))
	a.sign(reviews.ConfigPath, "user:bob")
	a.clock = time.Now().Add(-time.Hour)
	a.commit("forge")
	a.run("push", "--quiet", remote("root"), "main")

	h := a.syncer()
	h.now = time.Now()
	h.opt.Remote = s.URL + "/root/access.git"
	h.opt.Git.Token = user["robot"].Token
	h.opt.Audit.FromConfig = true
	h.opt.Attester = &Attester{Token: forge.Token(user["robot"].Token), Key: attester}
	h.restart()
	h.expect("etl#1", "")

	// ask pushes a review on a branch of its own and opens its pull request.
	ask := func(name string, on string) int {
		t.Helper()
		a.run("fetch", "--quiet", remote("root"), "main")
		a.run("checkout", "--quiet", "-B", "request/"+name, "FETCH_HEAD")
		a.write(reviewPath(name), review(name, 1, on))
		a.run("-c", "user.name=alice", "-c", "user.email=alice@example.com", "add", "--all")
		a.run("-c", "user.name=alice", "-c", "user.email=alice@example.com", "commit", "--quiet", "-m", "request "+name)
		a.run("push", "--quiet", remote("alice"), "request/"+name)
		var made struct{ Number int }
		call("alice", "POST", repo+"pulls", map[string]string{"base": "main", "head": "request/" + name, "title": name}, &made)
		return made.Number
	}
	approve := func(who string, pr int) error {
		return try(who, "POST", repo+fmt.Sprintf("pulls/%d/reviews", pr), map[string]string{"event": "APPROVED"}, nil)
	}
	merge := func(pr int, how string) {
		t.Helper()
		head := a.run("rev-parse", "HEAD")
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			err := try("root", "POST", repo+fmt.Sprintf("pulls/%d/merge", pr), map[string]string{"Do": how, "head_commit_id": head}, nil)
			var refused *peers.GiteaError
			if errors.As(err, &refused) && refused.Status == http.StatusMethodNotAllowed && time.Now().Before(deadline) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}

	// settle runs the sync until it sees what it should: Gitea tells who pushed from a queue, and until it does a request is awaited.
	settle := func(seen func(Result) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			h.now = h.now.Add(10 * time.Second)
			if seen(h.once()) {
				return
			}
		}
	}

	// Nobody approved it, or only its author, a stranger, or for what it held before.
	pr := ask("unapproved", "app.items")
	if approve("alice", pr) == nil {
		t.Error("alice approved her own pull request")
	}
	merge(pr, "squash")
	h.now = time.Now()
	if r := h.expect("etl#1", ""); len(r.Pending) != 1 || r.Broken != "" {
		t.Errorf("pending %+v, broken %q", r.Pending, r.Broken)
	}
	pr = ask("stranger", "app.items")
	if err := approve("robot", pr); err != nil {
		t.Fatal(err)
	}
	merge(pr, "squash")
	settle(func(r Result) bool { return len(r.Problems) == 1 && len(r.Pending) == 1 })
	h.now = h.now.Add(10 * time.Second)
	if r := h.expect("etl#1", ""); len(r.Pending) != 2 || !strings.Contains(fmt.Sprint(r.Pending), "approved and belongs to nobody in trust/root.yaml") || r.Broken != "" {
		t.Errorf("pending %+v, broken %q", r.Pending, r.Broken)
	}
	pr = ask("pushed", "app.items")
	if err := approve("bob", pr); err != nil {
		t.Fatal(err)
	}
	a.write(reviewPath("pushed"), review("pushed", 1, "app.secrets"))
	a.run("-c", "user.name=alice", "-c", "user.email=alice@example.com", "commit", "--quiet", "-am", "after approval")
	a.run("push", "--quiet", remote("alice"), "request/pushed")
	merge(pr, "squash")
	h.now = h.now.Add(10 * time.Second)
	if r := h.expect("etl#1", ""); len(r.Pending) != 3 {
		t.Errorf("pending %+v", r.Pending)
	}

	granted := "etl#1"
	for _, how := range []string{"squash", "merge", "rebase"} {
		began := time.Now()
		pr := ask(how, "app.items")
		if err := approve("bob", pr); err != nil {
			t.Fatal(err)
		}
		merge(pr, how)
		granted = map[string]string{"squash": "etl#1 squash#1", "merge": "etl#1 merge#1 squash#1", "rebase": "etl#1 merge#1 rebase#1 squash#1"}[how]
		settle(func(Result) bool { return h.granted() == granted })
		h.now = h.now.Add(10 * time.Second)
		r := h.expect(granted, "")
		t.Logf("%s: asked, approved, merged, attested and released in %v; awaiting %q", how, time.Since(began).Round(time.Millisecond), r.Awaiting)
	}

	// carol signs after bob approved, and pushes that herself: his approval stands. When alice pushes it, it does not.
	for _, who := range []string{"carol", "alice"} {
		name := "signed-by-" + who
		pr := ask(name, "app.items")
		if err := approve("bob", pr); err != nil {
			t.Fatal(err)
		}
		signed, err := reviews.Sign(a.people["user:carol"], reviews.NamespaceReview, []byte(a.read(reviewPath("etl"))))
		if err != nil {
			t.Fatal(err)
		}
		a.write(reviews.SidecarPath(reviewPath("etl"), "user:carol", a.people["user:carol"].PublicKey()), string(signed))
		a.commit("sign")
		a.run("push", "--quiet", remote(who), "request/"+name)
		merge(pr, "squash")
		if who == "carol" {
			granted = "etl#1 merge#1 rebase#1 signed-by-carol#1 squash#1"
			settle(func(Result) bool { return h.granted() == granted })
		}
		for range 2 {
			h.now = h.now.Add(time.Minute)
			h.expect(granted, "")
			time.Sleep(time.Second)
		}
	}

	// Rewritten: the last release stays, and the alarm is raised.
	a.run("push", "--quiet", "--force", remote("root"), "HEAD~1:refs/heads/main")
	a.run("fetch", "--quiet", remote("root"), "main")
	a.run("checkout", "--quiet", "-B", "main", "FETCH_HEAD")
	a.run("commit", "--quiet", "--allow-empty", "-m", "another history")
	a.run("push", "--quiet", "--force", remote("root"), "main")
	r, err := h.Once(t.Context())
	if !errors.Is(err, ErrRollback) || len(r.Alarms) == 0 || r.Alarms[0].Kind != AlarmRollback || h.granted() != granted {
		t.Errorf("force push: %v, alarms %+v, granted %q", err, r.Alarms, h.granted())
	}
}
