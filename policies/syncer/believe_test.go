package syncer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// rekeyed is a sync with a new release key and nothing else, at a time when
// carol's key, which approved in time, has expired: what is seen earlier than now
// only the log tells, and that the former key signed.
func rekeyed(t *testing.T, root func(a *access, text string, next ssh.Signer) string) (h *harness, former ssh.Signer) {
	t.Helper()
	a := newAccess(t)
	ends := start.Add(24*time.Hour + 10*time.Minute)
	a.carolUntil(ends)
	h = a.syncer()
	h.opt.Audit.Remote = a.auditRepo()
	h.restart()
	h.expect("etl#1 report#1", "")
	h.flush()
	former, a.sync = a.sync, newKey(t)
	a.rotate(func(text string) string { return root(a, text, a.sync) }, "user:bob")
	h.now = ends.Add(time.Hour)
	h.opt.Signer = a.sync
	return h, former
}

// replaceKey lists the new release key in place of the former one.
func replaceKey(a *access, text string, next ssh.Signer) string {
	i := strings.Index(text, "  release:\n")
	head, _, _ := strings.Cut(text[i+len("  release:\n"):], "\n")
	return strings.Replace(text, head, fmt.Sprintf("    - {key: %q}", line(next)), 1)
}

// addKey lists the new one beside it.
func addKey(a *access, text string, next ssh.Signer) string {
	return strings.Replace(text, "  release:\n", fmt.Sprintf("  release:\n    - {key: %q}\n", line(next)), 1)
}

// formerKey is the release key of the first trust root.
func (a *access) formerKey() ssh.PublicKey {
	a.t.Helper()
	root, err := reviews.ParseRoot(reviews.RootPath, []byte(a.read(reviews.RootPath)))
	if err != nil {
		a.t.Fatal(err)
	}
	key, err := root.Spec.Release[0].PublicKey()
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

// listen collects what the syncer logs once it is opened anew.
func (h *harness) listen() *bytes.Buffer {
	var logged bytes.Buffer
	h.opt.Log = slog.New(slog.NewTextHandler(&logged, nil))
	return &logged
}

func (h *harness) empty() { h.lose(h.opt.StateDir, h.opt.OutDir) }

// A sync on a new host, with a new key and no state, believes what the former
// one wrote while the trust root listed its key.
func TestLogOfAFormerReleaseKey(t *testing.T) {
	for name, root := range map[string]func(*access, string, ssh.Signer) string{"in place of the former": replaceKey, "beside the former": addKey} {
		t.Run(name, func(t *testing.T) {
			h, _ := rekeyed(t, root)
			h.empty()
			if r := h.expect("etl#1 report#1", ""); r.Sequence != 2 {
				t.Errorf("sequence %d: it has to go on after the log", r.Sequence)
			}
			h.flush()
			h.empty()
			if r := h.expect("etl#1 report#1", ""); r.Sequence != 3 {
				t.Errorf("sequence %d", r.Sequence)
			}
		})
	}
}

// Keys change hands one after another, each listed before the one before it goes;
// bob's key, which approved all of that, ends in between.
func TestLogOfManyReleaseKeys(t *testing.T) {
	h, former := rekeyed(t, addKey)
	h.opt.Signer = former // goes on for a while under the second trust root
	h.restart()
	h.expect("etl#1 report#1", "")
	h.flush()
	h.opt.Signer = h.a.sync
	h.restart()
	h.a.rotate(func(text string) string {
		text = strings.Replace(text, fmt.Sprintf("    - {key: %q}\n", line(former)), "", 1)
		bob := fmt.Sprintf(`"user:bob", keys: [{key: %q`, line(h.a.people["user:bob"]))
		if !strings.Contains(text, bob) {
			t.Fatal("no key of bob")
		}
		return strings.Replace(text, bob, bob+`, notAfter: "`+h.now.Add(time.Minute).Format(time.RFC3339)+`"`, 1)
	}, "user:bob")
	h.expect("etl#1 report#1", "")
	h.flush()
	h.now = h.now.Add(time.Hour)
	h.empty()
	h.expect("etl#1 report#1", "")
}

// TestFormerKeyAttacks has a row for each way to make an approval look older that
// an expired key made too late, with the help of a release key of some time.
func TestFormerKeyAttacks(t *testing.T) {
	early := start.Add(24 * time.Hour)
	under := func(sum string, version int) func(*release.Envelope) {
		return func(e *release.Envelope) {
			e.Sequence, e.TrustDigest, e.TrustVersion, e.IssuedAt, e.Taken[0].At = 70, sum, version, early, early
		}
	}
	for name, tt := range map[string]struct {
		root  func(*access, string, ssh.Signer) string
		entry func(h *harness, former ssh.Signer, first string) []byte
		why   string
	}{
		"by the retired key, dated back": {replaceKey, func(h *harness, former ssh.Signer, first string) []byte {
			return h.a.forge(former, under(first, 1))
		}, "did not list that key any more"},
		"by the retired key, under the new trust root": {replaceKey, func(h *harness, former ssh.Signer, _ string) []byte {
			return h.a.forge(former, under(digest([]byte(h.a.read(reviews.RootPath))), 2))
		}, "does not list as a release key"},
		"by the new key's thief, under a root that never was": {replaceKey, func(h *harness, _ ssh.Signer, _ string) []byte {
			return h.a.forge(newKey(t), under(strings.Repeat("a", 64), 2))
		}, "a trust root that was not in force"},
		"by a stranger, under the first trust root": {replaceKey, func(h *harness, _ ssh.Signer, first string) []byte {
			return h.a.forge(newKey(t), under(first, 1))
		}, "does not list as a release key"},
		"by a revoked key": {func(a *access, text string, next ssh.Signer) string {
			return addKey(a, text, next) + fmt.Sprintf("  revoked: [{fingerprint: %q, reason: stolen}]\n", ssh.FingerprintSHA256(a.formerKey()))
		}, nil, "which is revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			h, former := rekeyed(t, tt.root)
			first := h.a.pin
			if tt.entry == nil { // what it wrote in good times counts no more, either
				h.empty()
				h.expect("etl#1", "the key expired at")
				return
			}
			h.empty()
			h.expect("etl#1 report#1", "")
			h.flush()
			h.a.write(reviewPath("late"), review("late", 1, "app.items"))
			h.a.sign(reviewPath("late"), "user:carol")
			h.a.commit("carol approves too late")
			h.expect("etl#1 report#1", "late.yaml")
			h.flush()
			h.pushAudit("releases/70.json", string(tt.entry(h, former, first)))
			logged := h.listen()
			h.empty()
			h.expect("etl#1 report#1", "late.yaml")
			if !strings.Contains(logged.String(), tt.why) || !strings.Contains(logged.String(), "releases/70.json") {
				t.Errorf("the log does not say %q: %s", tt.why, logged)
			}
		})
	}
}

// A trust root that an expired member signed comes with a log that says it was
// signed in time, by the release key that this very trust root brings.
func TestLogDoesNotDateItsOwnTrustRoot(t *testing.T) {
	a := newAccess(t)
	ends := start.Add(24*time.Hour + 10*time.Minute)
	a.carolUntil(ends)
	h := a.syncer()
	h.opt.Audit.Remote = a.auditRepo()
	h.restart()
	h.expect("etl#1 report#1", "")
	h.flush()
	mallory := newKey(t)
	h.now = ends.Add(time.Hour)
	a.rotate(func(text string) string { return addKey(a, text, mallory) }, "user:carol")
	entry := a.forge(mallory, func(e *release.Envelope) {
		e.Sequence, e.TrustDigest, e.TrustVersion = 70, digest([]byte(a.read(reviews.RootPath))), 2
		e.IssuedAt, e.Taken[0].At = start.Add(24*time.Hour), start.Add(24*time.Hour)
	})
	h.pushAudit("releases/70.json", string(entry))
	h.empty()
	r := h.expect("etl#1 report#1", "")
	if r.Broken == "" || h.release().Root.Spec.Version != 1 {
		t.Errorf("mallory's trust root is in force: broken %q", r.Broken)
	}
}
