package syncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// rotate writes the next trust root, changed and signed by these people. The pin stays.
func (a *access) rotate(change func(text string) string, who ...string) string {
	a.t.Helper()
	text := a.read(reviews.RootPath)
	var version int
	if _, err := fmt.Sscanf(text[strings.Index(text, "  version: "):], "  version: %d", &version); err != nil {
		a.t.Fatal(err)
	}
	text = strings.Replace(text, fmt.Sprintf("version: %d", version), fmt.Sprintf("version: %d", version+1), 1)
	if change != nil {
		text = change(text)
	}
	a.write(reviews.RootPath, text)
	a.sign(reviews.RootPath, who...)
	return a.commit("rotate")
}

func more(lines string) func(string) string {
	return func(text string) string { return text + lines }
}

func TestRotation(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.expect("etl#1", "")
	a.people["user:dan"] = newKey(t)
	a.rotate(func(text string) string {
		text = strings.Replace(text, "  groups:\n", fmt.Sprintf("    - {name: \"user:dan\", keys: [{key: %q}]}\n  groups:\n", line(a.people["user:dan"])), 1)
		return strings.Replace(text, `reviewers: ["user:bob", "user:carol"]`, `reviewers: ["user:dan"]`, 1)
	}, "user:bob")
	// bob approves no more: what he approved is closed until dan does.
	r := h.expect("", "approvals[0] needs 1 of reviewers, has none")
	if r.Broken != "" {
		t.Error(r.Broken)
	}
	for _, p := range []string{connectionPath, principalPath, reviewPath("etl")} {
		a.sign(p, "user:dan")
	}
	a.commit("dan approves")
	h.expect("etl#1", "")
	a.rotate(more("  tombstones: []\n"), "user:carol")
	h.expect("etl#1", "")
	if got := h.release().Root.Spec.Version; got != 3 {
		t.Errorf("version %d", got)
	}
	cold := a.syncer()
	cold.expect("etl#1", "")
}

func TestRotationAttacks(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(a *access) func(string) string
		who    []string
		want   string
	}{
		"by nobody":      {who: nil, want: "not approved"},
		"by one outside": {who: []string{"user:alice"}, want: "has none"},
		"by the new root only": {change: func(a *access) func(string) string {
			return func(text string) string {
				return strings.Replace(text, `root: ["user:bob", "user:carol"]`, `root: ["user:alice"]`, 1)
			}
		}, who: []string{"user:alice"}, want: "under the trust root before it, version 1, it is not approved"},
		"a version left out": {change: func(*access) func(string) string {
			return func(text string) string { return strings.Replace(text, "version: 2", "version: 4", 1) }
		}, who: []string{"user:bob"}, want: "version 4 does not follow 1"},
		"of another repository": {change: func(*access) func(string) string {
			return func(text string) string {
				return strings.Replace(text, repoID, "6f0c2f5e-1d2c-4b3a-9a54-0c8f1d1f0a12", 1)
			}
		}, who: []string{"user:bob"}, want: "belongs to repository"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t)
			h := a.syncer()
			h.once()
			var change func(string) string
			if tt.change != nil {
				change = tt.change(a)
			}
			a.rotate(change, tt.who...)
			a.put(reviewPath("report"), review("report", 1, "app.items"))
			r := h.expect("etl#1", tt.want)
			if r.Broken == "" || h.release().Root.Spec.Version != 1 {
				t.Errorf("in force: version %d, broken %q", h.release().Root.Spec.Version, r.Broken)
			}
		})
	}
}

// A revocation applies although the config that the revoked person signed is no
// longer approved; what is in force of it stays, loudly.
func TestRevocation(t *testing.T) {
	a := newAccess(t)
	a.write(reviewPath("carols"), review("carols", 1, "app.items"))
	a.sign(reviewPath("carols"), "user:carol")
	a.commit("carol approves")
	h := a.syncer()
	h.expect("carols#1 etl#1", "")
	bob := fmt.Sprintf("  revoked: [{fingerprint: %q, reason: stolen}]\n", ssh.FingerprintSHA256(a.people["user:bob"].PublicKey()))
	a.rotate(more(bob), "user:bob", "user:carol")
	r := h.expect("", "the key is revoked (stolen)")
	if r.Broken == "" {
		t.Error("bob alone signed the config, and nobody is told")
	}
	for _, p := range []string{reviews.ConfigPath, connectionPath, principalPath} {
		a.sign(p, "user:carol")
	}
	a.commit("carol signs anew")
	h.expect("carols#1", "the key is revoked (stolen)")
}

func TestRevocationOfAPrincipalAfter(t *testing.T) {
	a := newAccess(t)
	a.sign(reviews.ConfigPath, "user:carol")
	a.sign(connectionPath, "user:carol")
	a.sign(principalPath, "user:carol")
	a.commit("carol signs")
	h := a.syncer()
	h.expect("etl#1", "")
	at := h.now.Add(time.Hour)
	a.rotate(more(fmt.Sprintf("  revoked: [{principal: \"user:bob\", mode: after, at: %q, reason: left}]\n", at.Format(time.RFC3339))), "user:carol", "user:bob")
	h.expect("etl#1", "")
	h.now = at.Add(time.Second)
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	h.expect("etl#1", "user:bob is revoked (left)")
}

func TestTombstoneInTheTrustRoot(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.expect("etl#1", "")
	a.rotate(more(fmt.Sprintf("  tombstones: [{sha256: %s, reason: incident}]\n", digest([]byte(a.read(reviewPath("etl")))))), "user:bob")
	h.expect("", "closes these contents for good (incident)")
	a.put(reviewPath("etl"), review("etl", 2, "app.orders"))
	h.expect("etl#2", "")
}

func TestRotationTogetherWithOthers(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.write(reviews.ConfigPath, "# changed\n"+config(1))
	a.sign(reviews.ConfigPath, "user:bob")
	a.rotate(nil, "user:bob")
	h.expect("etl#1", "changed sallyport.yaml together with trust/root.yaml")
	a.put(reviews.ConfigPath, "# changed again\n"+config(1))
	if r := h.expect("etl#1", ""); r.Broken != "" {
		t.Error(r.Broken)
	}
}

// A gateway that pinned any of the roots accepts the release; one that pinned another does not.
func TestPins(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	first := a.pin
	a.rotate(nil, "user:bob")
	second := digest([]byte(a.read(reviews.RootPath)))
	a.rotate(nil, "user:carol")
	third := digest([]byte(a.read(reviews.RootPath)))
	h.once()
	for pin, want := range map[string]bool{first: true, second: true, third: true, digest([]byte("x")): false} {
		_, err := release.Open(context.Background(), h.out, release.Trust{RootDigest: pin}, nil, h.now)
		if (err == nil) != want || err != nil && !errors.Is(err, release.ErrUntrusted) {
			t.Errorf("pin %s: %v", pin, err)
		}
	}
}

// A gateway does not go over to a trust root that does not follow from the one it used.
func TestForkedTrust(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	a.rotate(nil, "user:bob")
	h.once()
	mark, err := release.OpenHighWater(filepath.Join(t.TempDir(), "mark"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Open(context.Background(), h.out, release.Trust{RootDigest: a.pin}, mark, h.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := mark.Advance(r); err != nil {
		t.Fatal(err)
	}
	// Somebody with bob's key makes another version 2 out of version 1.
	a.run("reset", "--quiet", "--hard", "HEAD~1")
	a.rotate(more("# fork\n"), "user:bob")
	fork := a.syncer()
	for range 3 {
		fork.now = fork.now.Add(2 * time.Hour)
		fork.once()
	}
	if _, err := release.Open(context.Background(), fork.out, release.Trust{RootDigest: a.pin}, mark, fork.now); !errors.Is(err, release.ErrRolledBack) {
		t.Errorf("forked trust: %v", err)
	}
}

func (a *access) rewind(from, to string, who ...string) {
	a.t.Helper()
	a.write(reviews.RewindPath, fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: Rewind\nmetadata: {repo: %s, name: rewind}\nspec:\n  from: %s\n  to: %s\n  reason: a secret was committed\n", repoID, from, to))
	a.sign(reviews.RewindPath, who...)
	a.commit("rewind")
}

func TestAcceptRewind(t *testing.T) {
	a := newAccess(t)
	start := a.run("rev-parse", "HEAD")
	h := a.syncer()
	h.once()
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	a.put(reviewPath("etl"), review("etl", 2, "app.orders"))
	accepted := a.run("rev-parse", "HEAD")
	h.expect("etl#2 report#1", "")
	for _, tt := range []struct {
		name, from, to string
		who            []string
		want           string
	}{
		{"no order", "", "", nil, "rewind.yaml"},
		{"unsigned", accepted, start, nil, "not approved"},
		{"by a reviewer alone", accepted, start, []string{"user:alice"}, "has none"},
		{"from elsewhere", start, start, []string{"user:bob"}, "is about commit"},
		{"to a commit of another line", accepted, accepted, []string{"user:bob"}, "first-parent line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a.run("reset", "--quiet", "--hard", start)
			_ = os.RemoveAll(filepath.Join(a.dir, reviews.RewindPath+".sigs"))
			if tt.from != "" {
				a.rewind(tt.from, tt.to, tt.who...)
			}
			_, err := h.Once(context.Background())
			if !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	a.run("reset", "--quiet", "--hard", start)
	a.rewind(accepted, start, "user:bob")
	// The sequences that were used stay used.
	h.expect("", "sequence 1 is lower than 2")
	a.put(reviewPath("etl"), review("etl", 3, "app.orders"))
	h.expect("etl#3", "")
	h.restart()
	if r := h.once(); r.Error != "" {
		t.Error(r.Error)
	}
}

// Lowering a connection's risk takes the approvals of the higher one.
func TestRiskTalkedDown(t *testing.T) {
	a := newAccess(t)
	rules := strings.Replace(config(1), "  freshness:", "    - {match: {risks: [high]}, mode: signature, threshold: 2, groups: [reviewers]}\n  freshness:", 1)
	a.put(reviews.ConfigPath, rules)
	a.write(connectionPath, connection("email")+"  risk: high\n")
	a.sign(connectionPath, "user:bob", "user:carol")
	a.sign(reviewPath("etl"), "user:bob", "user:carol")
	a.commit("high risk")
	h := a.syncer()
	h.expect("etl#1", "")
	a.put(connectionPath, connection("email")+"  risk: low\n")
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	h.expect("", "approvals[1] needs 2 of reviewers, has 1 (user:bob)")
	a.sign(connectionPath, "user:bob", "user:carol")
	a.commit("both agree")
	h.expect("etl#1 report#1", "")
}

func TestAutomaticApproval(t *testing.T) {
	a := newAccess(t)
	a.put(policyPath, policy(`auto_approve contains "reads of items" if {
	every rule in input.review.spec.allow {
		rule.verbs == ["select"]
		rule.on == ["app.items"]
	}
}`))
	h := a.syncer()
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	a.commit("nobody signs")
	h.expect("etl#1", "approvals[0] needs 1 of reviewers, has none")
	a.put(reviews.ConfigPath, strings.Replace(config(1), "threshold: 1,", "threshold: 1, auto: true,", 1))
	h.expect("etl#1 report#1", "")
	a.write(reviewPath("orders"), review("orders", 1, "app.orders"))
	a.commit("nobody signs")
	h.expect("etl#1 report#1", "approvals[0] needs 1 of reviewers, has none")
	// A commit that changes the rule does not approve with it.
	a.write(reviewPath("more"), review("more", 1, "app.more"))
	a.put(policyPath, policy("auto_approve contains \"all\" if true"))
	h.expect("etl#1 orders#1 report#1", "together with trust, config or policies")
}

// A connection that changes together with a review cannot be what makes the rule true for it.
func TestAutomaticApprovalOfAnotherConnection(t *testing.T) {
	a := newAccess(t)
	a.put(policyPath, policy(`auto_approve contains "low risk" if input.connection.spec.risk == "low"`))
	a.put(reviews.ConfigPath, strings.Replace(config(1), "threshold: 1,", "threshold: 1, auto: true,", 1))
	h := a.syncer()
	h.expect("etl#1", "")
	a.write(connectionPath, connection("email")+"  risk: low\n")
	a.sign(connectionPath, "user:bob")
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	a.commit("both at once")
	for _, h := range []*harness{h, a.syncer()} {
		h.expect("etl#1", "approvals[0] needs 1 of reviewers, has none")
	}
	a.write(reviewPath("later"), review("later", 1, "app.items"))
	a.commit("afterwards")
	for _, h := range []*harness{h, a.syncer()} {
		h.expect("etl#1 later#1", "report")
	}
}

// What was revoked or closed for good stays so, whoever signs a trust root that says less.
func TestRevocationIsForGood(t *testing.T) {
	for name, tt := range map[string]struct{ from, to, want string }{
		"a revocation dropped": {"  revoked: [{fingerprint: %q, reason: stolen}]\n", "", "would not be revoked any more"},
		"one of a principal":   {"  revoked: [{principal: \"user:carol\", reason: stolen}] # %s\n", "", "user:carol would not be revoked any more"},
		"made one of later":    {"  revoked: [{fingerprint: %q, reason: stolen}]\n", "  revoked: [{fingerprint: %q, mode: after, at: \"2026-12-01T00:00:00Z\", reason: stolen}]\n", "would be revoked for less than it is"},
		"later yet":            {"  revoked: [{fingerprint: %q, mode: after, at: \"2026-11-01T00:00:00Z\", reason: stolen}]\n", "  revoked: [{fingerprint: %q, mode: after, at: \"2026-12-01T00:00:00Z\", reason: stolen}]\n", "would be revoked for less than it is"},
		"of another key":       {"  revoked: [{fingerprint: %q, reason: stolen}]\n", "  revoked: [{fingerprint: \"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", reason: stolen}] # %s\n", "would not be revoked any more"},
		"a tombstone dropped":  {"  tombstones: [{sha256: \"%[2]s\", reason: wrong}] # %[1]s\n", "", "would not be closed any more"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t)
			a.write(reviewPath("carols"), review("carols", 1, "app.items"))
			a.sign(reviewPath("carols"), "user:carol")
			a.commit("carol approves")
			h := a.syncer()
			h.expect("carols#1 etl#1", "")
			lines := func(text string) string {
				if text == "" {
					return ""
				}
				key, sum := ssh.FingerprintSHA256(a.people["user:carol"].PublicKey()), digest([]byte(a.read(reviewPath("carols"))))
				return fmt.Sprintf(text+"%.0[2]s", key, sum)
			}
			from := lines(tt.from)
			a.rotate(more(from), "user:bob")
			h.expect("etl#1", "")
			a.rotate(func(text string) string { return strings.Replace(text, from, lines(tt.to), 1) }, "user:bob", "user:carol")
			a.put(reviewPath("report"), review("report", 1, "app.items"))
			for _, h := range []*harness{h, a.syncer()} {
				if r := h.expect("etl#1", tt.want); r.Broken == "" || h.release().Root.Spec.Version != 2 {
					t.Errorf("version %d is in force, broken %q", h.release().Root.Spec.Version, r.Broken)
				}
			}
		})
	}
}
