//go:build forge

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// TestGiteaRoad plays the road of a pull request with the binaries as they are built, on a real Gitea and a real PostgreSQL: from the
// request to what the agent sees, and what must not work on the way.
func TestGiteaRoad(t *testing.T) {
	s := newStage(t)
	s.startDaemons()
	for _, part := range []struct {
		name string
		play func(*stage)
	}{
		{"approved, pushed to, approved again, enforced", (*stage).playApproval},
		{"asked for and waited for", (*stage).playWait},
		{"a dismissed approval is none", (*stage).playDismissal},
		{"signed in one go", (*stage).playSignature},
		{"one comment", (*stage).playComment},
		{"branch protection", (*stage).playProtection},
		{"approved automatically", (*stage).playAutomatic},
		{"what needs people is left to them", (*stage).playNotAutomatic},
		{"force push", (*stage).playForcePush},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			now := *s
			now.T = t
			part.play(&now)
		}) {
			break // the rest stands on it
		}
	}
}

func (s *stage) playApproval() {
	// Asked for, and not approved by who asked.
	pr := s.request("alice", "orders-db", "etl", "select:app.customers,app.orders")
	if err := s.approve("alice", pr); err == nil {
		s.Error("alice approved her own pull request")
	}
	s.awaits("nobody approved", pr, true)
	if r := s.psqlAs("orders-db", "select 1"); r.code == 0 || !strings.Contains(r.stderr, "no review lets agent:etl use orders-db") {
		s.Errorf("nothing is merged, and yet: %s", r.all())
	}

	// A push after the approval voids it.
	s.must(s.approve("bob", pr))
	s.awaits("bob approved", pr, false)
	s.edit("alice", "reviews/orders-db/etl.yaml", "nightly export", "nightly export, and a look at more")
	s.do("alice", "git", "commit", "--quiet", "--all", "--message", "Ask for more after the approval")
	s.do("alice", "git", "push", "--quiet")
	s.headIs("alice", pr)
	s.awaits("alice pushed after it", pr, true)

	// The same pull request approved again, merged, attested, enforced.
	s.must(s.approve("bob", pr))
	s.awaits("approved again", pr, false)
	began := time.Now()
	commit := s.merge("root", pr, "squash")
	merged := time.Since(began)
	s.enforced(commit)
	s.Logf("merged in the forge in %v, enforced by the gateway %v later, with a poll of ten minutes", merged.Round(time.Millisecond), (time.Since(began) - merged).Round(time.Millisecond))
	if files := s.do("carol", "sh", "-c", "git fetch --quiet && git ls-tree -r --name-only origin/audit"); !strings.Contains(files, "approvals/") {
		s.Errorf("the audit branch holds no attestation:\n%s", files)
	}

	if r := s.psqlAs("orders-db", "select status from app.orders order by id limit 1"); r.code != 0 || r.stdout != "new\n" {
		s.Errorf("an allowed statement: %d %s", r.code, r.all())
	}
	if r := s.psqlAs("orders-db", "select email, ssn from app.customers order by id limit 1"); r.code != 0 || !strings.HasPrefix(r.stdout, "a") || clear(r.stdout) != "" {
		s.Errorf("a masked statement: %d %s", r.code, r.all())
	}
	if r := s.psqlAs("orders-db", "update app.orders set status = 'x'"); r.code == 0 || !strings.Contains(r.stderr, "denial d-") {
		s.Errorf("a denied statement: %d %s", r.code, r.all())
	}

	// What is merged and attested is known to who works in a clone, too.
	s.do("carol", "git", "pull", "--quiet")
	if out := s.do("carol", "sallyport", "check", "--require-approved"); !strings.Contains(out, "all approved") {
		s.Errorf("check of the merged branch: %s", out)
	}
}

// playWait is `request --wait`: each step is told once.
func (s *stage) playWait() {
	s.do("alice", "git", "switch", "--quiet", "main")
	s.do("alice", "git", "pull", "--quiet")
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	defer cancel()
	cmd := s.command(ctx, "alice", "sallyport", "request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--name", "waited", "--reason", "a look",
		"--allow", "select:app.orders", "--pr", "--wait", "--every", "200ms", "--status", s.admin())
	said, err := os.Create(s.path("wait.log"))
	s.must(err)
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	s.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.Cleanup(func() { cancel() })
	tells := func(what string) {
		s.Helper()
		s.eventually("request --wait says "+what, time.Minute, func() error {
			b, err := os.ReadFile(said.Name())
			if !strings.Contains(string(b), "\n"+what) {
				err = errors.Join(err, errors.New(string(b)))
			}
			return err
		})
	}
	tells("0 of 1 approval\n")
	b, err := os.ReadFile(said.Name())
	s.must(err)
	pr := numberIn(s, string(b))
	s.status(pr, "pending")
	tells("CI is running, 0 of 1 done, 0 of 1 approval\n")
	s.status(pr, "success")
	tells("CI passed, 0 of 1 approval\n")
	s.must(s.approve("bob", pr))
	tells("CI passed, 1 of 1 approval\n")
	s.merge("root", pr, "squash")
	tells("CI passed, merged at ")
	select {
	case err := <-ended:
		s.must(err)
	case <-time.After(time.Minute):
		s.Fatal("request --wait does not end")
	}
	b, err = os.ReadFile(said.Name())
	s.must(err)
	if !regexp.MustCompile(`CI passed, merged at [0-9a-f]{12}, enforced in release [0-9]+ by gw1\n$`).Match(b) {
		s.Errorf("request --wait ends with\n%s", b)
	}
}

func (s *stage) playDismissal() {
	pr := s.request("alice", "orders-db", "dismissed", "select:app.orders")
	s.must(s.approve("bob", pr))
	s.awaits("bob approved", pr, false)
	var reviews []struct{ ID int64 }
	s.call("root", "GET", fmt.Sprintf("%spulls/%d/reviews", repository, pr), nil, &reviews)
	s.call("root", "POST", fmt.Sprintf("%spulls/%d/reviews/%d/dismissals", repository, pr, reviews[0].ID), map[string]any{"message": "not this"}, nil)
	s.awaits("the approval was dismissed", pr, true)
	s.merge("root", pr, "squash")
	s.pending("orders-db/dismissed")
}

// pending waits until sync says that a merged review waits for an approval.
func (s *stage) pending(review string) {
	s.Helper()
	s.eventually(review+" is merged and pending", time.Minute, func() error {
		r := s.run("robot", "sallyport", "status", "--state", s.path("sync-state"))
		if !strings.Contains(r.stdout, "pending: reviews/"+review+".yaml") {
			return errors.New(r.all())
		}
		return nil
	})
}

// playSignature has bob approve and sign with one command, which pushes once. A signature needs no attestation.
func (s *stage) playSignature() {
	pr := s.request("alice", "orders-db", "signed", "select:app.orders")
	before := s.pull(pr).Head.SHA
	var shown struct{ Digest string }
	s.must(json.Unmarshal([]byte(s.do("bob", "sallyport", "review", strconv.Itoa(pr), "--json")), &shown))
	s.refused("alice", "needs an approval that user:alice could give", "sallyport", "review", strconv.Itoa(pr), "--as", "user:alice", "--key", s.path("home", "alice", "key"), "--approve", "--digest", shown.Digest)
	out := s.do("bob", "sallyport", "review", strconv.Itoa(pr), "--as", "user:bob", "--key", s.path("home", "bob", "key"), "--approve", "--digest", shown.Digest)
	if !strings.Contains(out, "signed 1 document as user:bob, pushed to") || !strings.Contains(out, "it has all approvals") {
		s.Errorf("review --approve says %s", out)
	}
	s.eventually("the signature is on the pull request", time.Minute, func() error {
		if head := s.pull(pr).Head.SHA; head == before {
			return errors.New("it is at " + head)
		}
		return nil
	})
	s.enforced(s.merge("root", pr, "squash"))
	if r := s.run("robot", "sallyport", "status", "--state", s.path("sync-state")); strings.Contains(r.stdout, "orders-db/signed") {
		s.Errorf("the signed review is not in force: %s", r.stdout)
	}
}

// playComment keeps one comment on a pull request, by a job that may write there.
func (s *stage) playComment() {
	pr := s.request("alice", "orders-db", "commented", "select:app.orders")
	type comment struct {
		Body string
		User struct{ Login string }
	}
	comments := func() (all []comment) {
		s.call("robot", "GET", fmt.Sprintf("%sissues/%d/comments", repository, pr), nil, &all)
		return all
	}
	text := s.do("bob", "sallyport", "review", strconv.Itoa(pr))
	if !strings.Contains(text, "agent:etl") || !strings.Contains(text, "select on app.orders") {
		s.Errorf("review says\n%s", text)
	}
	if _, err := os.Stat(s.people["job"].clone); err != nil {
		s.do("job", "git", "clone", "--quiet", s.remote(), "access")
	}
	s.do("job", "sallyport", "review", strconv.Itoa(pr), "--comment")
	s.do("job", "sallyport", "review", strconv.Itoa(pr), "--comment")
	first := comments()
	if len(first) != 1 || first[0].User.Login != "job" || !strings.Contains(first[0].Body, "app.orders") || strings.Contains(first[0].Body, "app.customers") {
		s.Fatalf("after two runs there are %+v", first)
	}
	s.edit("alice", "reviews/orders-db/commented.yaml", "on: [app.orders]", "on: [app.orders, app.customers]")
	s.do("alice", "git", "commit", "--quiet", "--all", "--message", "More")
	s.do("alice", "git", "push", "--quiet")
	s.headIs("alice", pr)
	s.do("job", "sallyport", "review", strconv.Itoa(pr), "--comment")
	if now := comments(); len(now) != 1 || !strings.Contains(now[0].Body, "app.customers") {
		s.Errorf("after a push there are %+v", now)
	}
}

// playProtection asks Gitea for the protection that check relies on: what is weak is refused, with what to set.
func (s *stage) playProtection() {
	root := s.people["root"]
	if _, err := os.Stat(root.clone); err != nil {
		s.do("root", "git", "clone", "--quiet", s.remote(), "access")
	}
	for _, weakness := range []string{"can be pushed to main without a pull request", "does not take the approval back", "main can be force-pushed", "main can be deleted", "no status has to be good before a merge"} {
		s.refused("root", weakness, "sallyport", "check", "--protection")
	}
	rule := map[string]any{
		"rule_name": "main", "enable_push": false, "required_approvals": 1, "dismiss_stale_approvals": true,
		"block_on_rejected_reviews": true, "block_admin_merge_override": true, "enable_force_push": false, "enable_status_check": true, "status_check_contexts": []string{checkContext},
	}
	s.call("root", "POST", repository+"branch_protections", rule, nil)
	s.refused("alice", "not to be seen with this token", "sallyport", "check", "--ref", "origin/main", "--protection")
	if out := s.do("root", "sallyport", "check", "--protection"); !strings.Contains(out, "ok:") {
		s.Errorf("protected: %s", out)
	}
	s.call("root", "DELETE", repository+"branch_protections/main", nil, nil)
}

// request asks through the command line and returns the number of the pull request
// that it opened. Its branch is checked out, to go on with it.
func (s *stage) request(who, connection, name string, allow ...string) int {
	s.Helper()
	s.do(who, "git", "switch", "--quiet", "main")
	s.do(who, "git", "pull", "--quiet")
	words := []string{"sallyport", "request", connection, "--as", "agent:etl", "--requester", "user:" + who, "--name", name, "--reason", "nightly export", "--pr", "--json"}
	for _, a := range allow {
		words = append(words, "--allow", a)
	}
	number := pullIn(s, s.do(who, words...))
	s.do(who, "git", "switch", "--quiet", "request/"+connection+"/"+name)
	return number
}

// pullIn is the number of the pull request that `request --json` opened.
func pullIn(s *stage, printed string) int {
	s.Helper()
	var said struct {
		Pull string `json:"pullRequest"`
	}
	s.must(json.Unmarshal([]byte(printed), &said))
	number, err := strconv.Atoi(said.Pull[strings.LastIndexByte(said.Pull, '/')+1:])
	s.must(err)
	return number
}

// awaits asserts whether a reviewer is told that the pull request still needs an approval. Gitea tells some things only a little later.
func (s *stage) awaits(when string, pr int, want bool) {
	s.Helper()
	s.eventually(fmt.Sprintf("%s: that it awaits an approval is %v", when, want), time.Minute, func() error {
		var said struct{ Awaiting []json.RawMessage }
		text := s.do("carol", "sallyport", "review", strconv.Itoa(pr), "--json")
		s.must(json.Unmarshal([]byte(text), &said))
		if (len(said.Awaiting) > 0) != want {
			return errors.New(text)
		}
		return nil
	})
}

// edit replaces a text in a file of a person's clone.
func (s *stage) edit(who, file, old, replacement string) {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.people[who].clone, file))
	s.must(err)
	if !strings.Contains(string(b), old) {
		s.Fatalf("%s does not hold %q:\n%s", file, old, b)
	}
	s.write(who, file, strings.Replace(string(b), old, replacement, 1))
}

func (s *stage) approve(who string, pr int) error {
	return s.try(who, "POST", fmt.Sprintf("%spulls/%d/reviews", repository, pr), map[string]string{"event": "APPROVED"}, nil)
}

// headIs waits until the forge has the head of a person's clone for the head of the pull request.
func (s *stage) headIs(who string, pr int) string {
	s.Helper()
	head := strings.TrimSpace(s.do(who, "git", "rev-parse", "HEAD"))
	s.eventually("the forge knows the new head", time.Minute, func() error {
		if now := s.pull(pr).Head.SHA; now != head {
			return errors.New("it is at " + now)
		}
		return nil
	})
	return head
}

type pull struct {
	Merged         bool
	MergeCommitSHA string `json:"merge_commit_sha"`
	Head           struct{ SHA string }
}

func (s *stage) pull(pr int) (p pull) {
	s.Helper()
	s.call("robot", "GET", fmt.Sprintf("%spulls/%d", repository, pr), nil, &p)
	return p
}

// merge is the button of the forge. Gitea wants to be asked again while it looks at a new head.
func (s *stage) merge(who string, pr int, how string) (commit string) {
	s.Helper()
	s.eventually("the forge merges", time.Minute, func() error {
		err := s.try(who, "POST", fmt.Sprintf("%spulls/%d/merge", repository, pr), map[string]any{"Do": how, "head_commit_id": s.pull(pr).Head.SHA}, nil)
		var refused *peers.GiteaError
		if err != nil && !(errors.As(err, &refused) && refused.Status == http.StatusMethodNotAllowed) {
			s.Fatal(err)
		}
		return err
	})
	return s.pull(pr).MergeCommitSHA
}

// enforced waits until the gateway enforces a release of a commit.
func (s *stage) enforced(commit string) time.Duration {
	s.Helper()
	return s.eventually("the gateway enforces "+commit, time.Minute, func() error {
		g, err := s.gateway()
		if err == nil && g.Release.Commit != commit {
			err = errors.New("it is at " + g.Release.Commit)
		}
		return err
	})
}

// checkContext is how Gitea names the first job of the workflow.
const checkContext = "sallyport / check (pull_request)"

// status is what a forge's own CI says of the head of a pull request.
func (s *stage) status(pr int, state string) {
	s.Helper()
	s.call("job", "POST", repository+"statuses/"+s.pull(pr).Head.SHA, map[string]string{"context": checkContext, "state": state}, nil)
}
