package syncer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

func TestUnsignedReview(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	a.commit("unsigned")
	h.expect("etl#1", "not approved")
	a.sign(reviewPath("report"), "user:bob")
	a.commit("signed later")
	h.expect("etl#1 report#1", "")
}

func TestEditAfterSigning(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.write(reviewPath("etl"), review("etl", 2, "app.secrets"))
	a.commit("edit, old signature")
	h.expect("", "not approved")
}

func TestCopyToAnotherPath(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	copyTo := func(to string) {
		a.write(to, a.read(reviewPath("etl")))
		sigs, err := filepath.Glob(filepath.Join(a.dir, reviewPath("etl")+".sigs", "*"))
		if err != nil || len(sigs) != 1 {
			t.Fatal(sigs, err)
		}
		b, err := os.ReadFile(sigs[0])
		if err != nil {
			t.Fatal(err)
		}
		a.write(to+".sigs/"+filepath.Base(sigs[0]), string(b))
	}
	copyTo(reviewPath("other"))
	copyTo("reviews/second-db/etl.yaml")
	a.commit("copies")
	h.expect("etl#1", "other.yaml")
}

func TestOldSignedCopyAfterDeletion(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.remove(reviewPath("etl"))
	a.commit("remove")
	h.expect("", "")
	a.put(reviewPath("etl"), review("etl", 1, "app.orders"))
	h.expect("", "write it anew with sequence 2")
	a.put(reviewPath("etl"), review("etl", 2, "app.orders"))
	h.expect("etl#2", "")
}

func TestRevertOfAWidening(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	a.put(reviewPath("etl"), review("etl", 2, "app.*"))
	h.expect("etl#2", "")
	a.put(reviewPath("etl"), review("etl", 1, "app.orders"))
	h.expect("", "sequence 1 is lower than 2")
	a.put(reviewPath("etl"), review("etl", 2, "app.orders"))
	h.expect("", "sequence 2 already stands for other bytes")
	a.put(reviewPath("etl"), review("etl", 2, "app.*"))
	h.expect("etl#2", "")
}

// A connection has no sequence; its old signed version, with one mask less, does not come back either.
func TestOldSignedConnection(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.put(connectionPath, connection("ssn"))
	h.expect("etl#1", "")
	a.put(connectionPath, connection("email"))
	h.expect("", "older version")
	a.put(connectionPath, "# again\n"+connection("email"))
	h.expect("etl#1", "")
	a.remove(connectionPath)
	a.commit("remove")
	h.expect("", "")
	a.put(connectionPath, "# again\n"+connection("email"))
	h.expect("", "older version")
}

// An edit that nobody approved replaces nothing; taking it back is enough.
func TestUnapprovedEditTakenBack(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.write(connectionPath, connection("ssn"))
	a.commit("no signature")
	h.expect("", "not approved")
	a.write(connectionPath, connection("email"))
	a.commit("back")
	h.expect("etl#1", "")
}

func TestOldSignedPrincipal(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.remove(principalPath)
	a.commit("remove")
	h.expect("", "")
	a.put(principalPath, a.principal("first"))
	h.expect("", "older version")
}

func TestBrokenPolicy(t *testing.T) {
	a := newAccess(t)
	a.put(policyPath, policy("deny contains \"no\" if input.principal == \"x\""))
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	h := a.syncer()
	h.expect("etl#1 report#1", "")
	a.put(policyPath, policy("deny contains \"no\" if {"))
	a.put(reviewPath("new"), review("new", 1, "app.items"))
	a.put(reviewPath("report"), review("report", 2, "app.*"))
	r := h.expect("etl#1", policyPath)
	if r.Broken == "" || !r.Published {
		t.Errorf("result %+v", r)
	}
	a.remove(reviewPath("etl"))
	a.commit("a removal applies all the same")
	h.expect("", policyPath)
	a.put(policyPath, policy("deny contains \"never\" if input.principal == \"x\""))
	if r := h.expect("new#1 report#2", ""); r.Broken != "" {
		t.Errorf("still broken: %s", r.Broken)
	}
}

func TestPolicyDeletedOrReplayed(t *testing.T) {
	a := newAccess(t)
	strict := policy("deny contains \"no\" if input.principal == \"x\"")
	a.put(policyPath, strict)
	h := a.syncer()
	h.once()
	a.remove(policyPath)
	a.commit("delete the rule")
	if r := h.expect("etl#1", "nobody signed that"); r.Broken == "" {
		t.Error("a policy went without an approval")
	}
	a.put(policyPath, strict)
	if r := h.expect("etl#1", ""); r.Broken != "" {
		t.Errorf("still broken: %s", r.Broken)
	}
	a.put(policyPath, policy("deny contains \"no\" if input.principal == \"y\""))
	h.expect("etl#1", "")
	a.put(policyPath, strict)
	h.expect("etl#1", "older version")
}

// Listing a policy in the config and taking it off the list is how one goes.
func TestPolicyRemovedWithApproval(t *testing.T) {
	a := newAccess(t)
	listed := config(1) + "  policies: [owner.rego]\n"
	a.write(policyPath, policy("deny contains \"no\" if input.principal == \"x\""))
	a.sign(policyPath, "user:bob")
	a.put(reviews.ConfigPath, listed)
	h := a.syncer()
	h.once()
	a.remove(policyPath)
	a.put(reviews.ConfigPath, "# without policies\n"+config(1))
	if r := h.expect("etl#1", ""); r.Broken != "" {
		t.Errorf("broken: %s", r.Broken)
	}
}

func TestConfigWeakenedWithoutApproval(t *testing.T) {
	a := newAccess(t)
	a.put(reviews.ConfigPath, config(2))
	a.sign(reviewPath("etl"), "user:bob", "user:carol")
	for _, p := range []string{connectionPath, principalPath} {
		a.sign(p, "user:bob", "user:carol")
	}
	a.commit("two approvals")
	h := a.syncer()
	h.expect("etl#1", "")
	a.write(reviews.ConfigPath, config(1)+"# weaker\n")
	a.commit("weaken, unsigned")
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	h.expect("etl#1", "sallyport.yaml")
	a.put(reviews.ConfigPath, config(1))
	h.expect("etl#1", "older version")
}

// Even well signed, a config does not take effect on what comes with it.
func TestConfigAndReviewInOneCommit(t *testing.T) {
	a := newAccess(t)
	a.put(reviews.ConfigPath, config(2))
	for _, p := range []string{connectionPath, principalPath, reviewPath("etl")} {
		a.sign(p, "user:bob", "user:carol")
	}
	a.commit("two approvals")
	h := a.syncer()
	h.expect("etl#1", "")
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	a.sign(reviewPath("report"), "user:bob")
	a.put(reviews.ConfigPath, "# one is enough\n"+config(1))
	h.expect("etl#1", "together with trust, config or policies")
	a.commit("unrelated")
	h.expect("etl#1", "together with trust, config or policies")
	a.sign(reviewPath("report"), "user:bob", "user:carol")
	a.commit("touched by itself")
	h.expect("etl#1 report#1", "")
}

func TestTrustRootChanged(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.put(reviews.RootPath, "# rotated\n"+a.root())
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	r := h.expect("etl#1", "version 1 does not follow 1")
	if !r.Published {
		t.Error("not published")
	}
	a.pin = digest([]byte(a.root() + "x"))
	other := a.syncer()
	if r, err := other.Once(context.Background()); err == nil || r.Published {
		t.Errorf("published under another pin: %+v", r)
	}
}

func TestRewoundRemote(t *testing.T) {
	a := newAccess(t)
	before := a.run("rev-parse", "HEAD")
	a.put(reviewPath("etl"), review("etl", 2, "app.orders"))
	tip := a.run("rev-parse", "HEAD")
	h := a.syncer()
	first := h.expect("etl#2", "")
	a.run("reset", "--quiet", "--hard", before)
	check := func(story string) {
		t.Helper()
		h.now = h.now.Add(2 * time.Hour)
		r, err := h.Once(context.Background())
		if !errors.Is(err, ErrRollback) || r.Published || r.Sequence != first.Sequence {
			t.Errorf("%s: %+v, %v", story, r, err)
		}
		status, err := os.ReadFile(filepath.Join(h.opt.StateDir, statusFile))
		if err != nil || !strings.Contains(string(status), "rollback_detected") {
			t.Errorf("%s: status %s %v", story, status, err)
		}
	}
	check("rewound")
	h.restart()
	check("rewound, after a restart")
	a.commit("another line")
	check("rewritten")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.opt.StateDir, "mirror.git")); err != nil {
		t.Fatal(err)
	}
	h.open()
	check("rewritten, mirror lost")
	a.run("reset", "--quiet", "--hard", tip)
	if r := h.once(); !r.Published {
		t.Errorf("not published after the branch came back: %+v", r)
	}
}

var errKilled = errors.New("killed")

// A crash anywhere between bundles, envelope and state neither shows half a
// release nor lets two releases share a sequence.
func TestKilledWhilePublishing(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	h.publish = func(ctx context.Context, to release.Target, in release.BuildInput, _ ssh.Signer) (*release.Built, error) {
		built, err := release.Build(ctx, in)
		if err != nil {
			return nil, err
		}
		for sum, bundle := range built.Bundles {
			if err := os.WriteFile(filepath.Join(to.String(), "bundles", sum+".tar.gz"), bundle[:len(bundle)/2], 0o644); err != nil {
				return nil, err
			}
		}
		return nil, errKilled
	}
	before := h.envelope()
	if _, err := h.Once(context.Background()); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if now := h.envelope(); now.Sequence != before.Sequence {
		t.Errorf("sequence %d is published", now.Sequence)
	}
	h.restart()
	if r := h.expect("etl#1 report#1", ""); r.Sequence != 3 {
		t.Errorf("sequence %d after a crash before the envelope, want 3", r.Sequence)
	}
	h.publish = func(ctx context.Context, to release.Target, in release.BuildInput, signer ssh.Signer) (*release.Built, error) {
		if _, err := publishRelease(ctx, to, in, signer); err != nil {
			return nil, err
		}
		return nil, errKilled
	}
	a.commit("next")
	if _, err := h.Once(context.Background()); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	h.restart()
	if r := h.once(); r.Sequence != 5 {
		t.Errorf("sequence %d after a crash behind the envelope, want 5", r.Sequence)
	}
}

// Nobody uses up the sequences of a name: a number far above the others is refused and not remembered.
func TestSequenceFarAbove(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.write(reviewPath("etl"), review("etl", 1<<53, "app.orders"))
	a.commit("nobody approved it")
	h.expect("", "write it anew with sequence 2")
	a.sign(reviewPath("etl"), "user:bob")
	a.commit("even bob")
	h.expect("", "far above 1")
	a.put(reviewPath("etl"), review("etl", 2, "app.orders"))
	for _, h := range []*harness{h, a.syncer()} {
		h.expect("etl#2", "")
	}
}

// Who owns an agent does not approve that somebody else does from now on, to approve its
// access alone afterwards.
func TestOwnerGivesAnAgentAway(t *testing.T) {
	a := newAccess(t)
	owned := func(by, comment string) string { return strings.Replace(a.principal(comment), "user:alice", by, 1) }
	a.write(principalPath, owned("user:bob", "bob's"))
	a.sign(principalPath, "user:carol")
	a.write(reviewPath("etl"), review("etl", 2, "app.orders"))
	a.sign(reviewPath("etl"), "user:carol")
	a.commit("bob owns it")
	h := a.syncer()
	h.expect("etl#2", "")
	a.put(principalPath, owned("user:alice", "away"))
	a.put(reviewPath("job"), review("job", 1, "app.secrets"))
	for _, h := range []*harness{h, a.syncer()} {
		h.expect("", "user:bob may not approve this: it was the owner before this change")
	}
	a.sign(principalPath, "user:carol")
	a.commit("carol agrees")
	a.put(reviewPath("late"), review("late", 1, "app.items"))
	for _, h := range []*harness{h, a.syncer()} {
		h.expect("etl#2 job#1 late#1", "")
	}
}
