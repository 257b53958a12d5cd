package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// auditRepo is a bare repository for the audit branch.
func (a *access) auditRepo() string {
	a.t.Helper()
	dir := filepath.Join(a.t.TempDir(), "audit.git")
	a.run("init", "--quiet", "--bare", dir)
	return dir
}

// logged are the files of the log, with what they hold.
func (a *access) logged(repo string) map[string]string {
	a.t.Helper()
	files := map[string]string{}
	for _, name := range strings.Fields(a.run("--git-dir", repo, "ls-tree", "--name-only", "audit", "releases/")) {
		files[strings.TrimPrefix(name, "releases/")] = a.run("--git-dir", repo, "show", "audit:"+name)
	}
	return files
}

// lose closes the syncer, takes its state and its releases away, and opens it anew.
func (h *harness) lose(dirs ...string) {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatal(err)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			h.t.Fatal(err)
		}
	}
	h.open()
}

func (h *harness) flush() {
	h.t.Helper()
	if err := h.Flush(context.Background()); err != nil {
		h.t.Fatal(err)
	}
}

// carolUntil makes carol's key end, and has her approve a review before that.
func (a *access) carolUntil(ends time.Time) {
	a.t.Helper()
	carol := `"user:carol", keys: [{key: "` + line(a.people["user:carol"]) + `"`
	text := strings.Replace(a.root(), carol, carol+`, notAfter: "`+ends.Format(time.RFC3339)+`"`, 1)
	a.write(reviews.RootPath, text)
	a.sign(reviews.RootPath, "user:bob")
	a.pin = digest([]byte(text))
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	a.sign(reviewPath("report"), "user:carol")
	a.commit("carol approves")
}

// The state is lost, and a key that approved in time has expired meanwhile: the
// log of releases proves when the approval was seen. What comes after the last
// release in the log is seen now.
func TestLostStateIsLearnedFromTheLog(t *testing.T) {
	a := newAccess(t)
	ends := start.Add(24*time.Hour + 10*time.Minute)
	a.carolUntil(ends)
	h := a.syncer()
	h.opt.Audit.Remote = a.auditRepo()
	h.restart()
	h.expect("etl#1 report#1", "")
	h.flush()
	a.commit("nothing")
	h.expect("etl#1 report#1", "")
	h.flush()
	e := h.envelope()
	if len(e.Taken) != 1 || e.Taken[0].Commit != a.run("rev-parse", "HEAD") || !e.Taken[0].At.Equal(h.now) {
		t.Errorf("taken %+v", e.Taken)
	}
	if log := a.logged(h.opt.Audit.Remote); len(log) != 2 {
		t.Fatalf("log %v", log)
	} else if b, err := os.ReadFile(filepath.Join(h.out, release.EnvelopeFile)); err != nil || strings.TrimSpace(string(b)) != log["2.json"] {
		t.Errorf("the log holds something else than what was published: %v", err)
	}
	h.now = ends.Add(time.Hour)
	a.write(reviewPath("late"), review("late", 1, "app.items"))
	a.sign(reviewPath("late"), "user:carol")
	a.commit("carol approves too late, and git has a date before")
	h.lose(h.opt.StateDir, h.out)
	r := h.expect("etl#1 report#1", "late.yaml")
	if r.Sequence != 3 {
		t.Errorf("sequence %d: it has to go on after the log", r.Sequence)
	}
	if e := h.envelope(); len(e.Taken) != 1 || !e.Taken[0].At.Equal(h.now) {
		t.Errorf("taken %+v: only the last commit is new", e.Taken)
	}
	// Once more, from the log alone.
	h.flush()
	h.lose(h.opt.StateDir, h.out)
	h.expect("etl#1 report#1", "late.yaml")
}

// forge is a release that says that sync saw the head when the tests' clock began.
func (a *access) forge(key ssh.Signer, change func(*release.Envelope)) []byte {
	a.t.Helper()
	head := a.run("rev-parse", "HEAD")
	e := release.Envelope{
		Repo: repoID, Ref: "refs/heads/main", Commit: head, Sequence: 90, Bundles: map[string]string{},
		Taken: []release.Taken{{Commit: head, At: start}},
	}
	if change != nil {
		change(&e)
	}
	dir := a.t.TempDir()
	if err := release.Publish(dir, &release.Built{Envelope: e}, key); err != nil {
		a.t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, release.EnvelopeFile))
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// Whoever may push to the audit branch puts releases into the log that say that
// an expired key approved in time. Each is signed as well as they can.
func TestForgedLogIsNotBelieved(t *testing.T) {
	forge := (*access).forge
	for name, tt := range map[string]struct {
		make     func(a *access) []byte
		believed bool
	}{
		"by its own key, so that this test shows what it is for": {func(a *access) []byte { return forge(a, a.sync, nil) }, true},
		"by another key":   {func(a *access) []byte { return forge(a, newKey(a.t), nil) }, false},
		"by a root member": {func(a *access) []byte { return forge(a, a.people["user:bob"], nil) }, false},
		"of another branch": {func(a *access) []byte {
			return forge(a, a.sync, func(e *release.Envelope) { e.Ref = "refs/heads/request" })
		}, false},
		"of another commit": {func(a *access) []byte {
			return forge(a, a.sync, func(e *release.Envelope) { e.Taken[0].Commit = strings.Repeat("a", 40) })
		}, false},
		"changed afterwards": {func(a *access) []byte {
			var s map[string]any
			if err := json.Unmarshal(forge(a, a.sync, nil), &s); err != nil {
				a.t.Fatal(err)
			}
			var other map[string]any
			if err := json.Unmarshal(forge(a, a.sync, func(e *release.Envelope) { e.Taken[0].At = start.Add(-time.Hour) }), &other); err != nil {
				a.t.Fatal(err)
			}
			s["payload"] = other["payload"]
			b, err := json.Marshal(s)
			if err != nil {
				a.t.Fatal(err)
			}
			return b
		}, false},
		"nonsense": {func(*access) []byte { return []byte("{}") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t)
			ends := start.Add(24*time.Hour + 10*time.Minute)
			a.carolUntil(ends)
			repo := a.auditRepo()
			head := a.run("rev-parse", "HEAD")
			forged := tt.make(a)
			a.run("checkout", "--quiet", "--orphan", "audit")
			a.run("rm", "--quiet", "-r", "--force", ".")
			a.write("releases/90.json", string(forged))
			a.commit("forged")
			a.run("push", "--quiet", repo, "audit")
			a.run("checkout", "--quiet", "main")
			if a.run("rev-parse", "HEAD") != head {
				t.Fatal("the branch moved")
			}
			h := a.syncer()
			h.now = ends.Add(time.Hour)
			h.opt.Audit.Remote = repo
			h.restart()
			if tt.believed {
				if r := h.expect("etl#1 report#1", ""); r.Sequence != 91 {
					t.Errorf("sequence %d", r.Sequence)
				}
				return
			}
			h.expect("etl#1", "the key expired at")
		})
	}
}

// While the audit repository is away, releases are published as ever; then the
// log has all of them, in order, also after a restart.
func TestLogOutage(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	repo := a.auditRepo()
	h.opt.Audit.Remote = repo
	h.restart()
	h.once()
	h.flush()
	if err := os.Rename(repo, repo+".away"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		a.put(reviewPath("etl"), review("etl", i+2, "app.orders"))
		if r := h.expect(fmt.Sprintf("etl#%d", i+2), ""); !r.Published || r.Sequence != int64(i+2) {
			t.Errorf("not published: %+v", r)
		}
		if err := h.Flush(t.Context()); err == nil {
			t.Error("the audit repository is away, and nothing is said")
		}
	}
	r := h.once()
	if r.Waiting != 3 || r.LogError == "" || !slices.ContainsFunc(r.Alarms, func(a Alarm) bool { return a.Kind == AlarmLog && a.Next != "" }) {
		t.Errorf("waiting %d, %q, alarms %+v", r.Waiting, r.LogError, r.Alarms)
	}
	h.restart()
	if err := os.Rename(repo+".away", repo); err != nil {
		t.Fatal(err)
	}
	h.flush()
	if log := a.logged(repo); len(log) != 4 {
		t.Errorf("log %v", log)
	}
	if r := h.once(); r.Waiting != 0 || r.LogError != "" {
		t.Errorf("still waiting: %+v", r)
	}
	if text := a.run("--git-dir", repo, "log", "--format=%s", "audit"); text != "audit: releases 2 to 4\naudit: release 1" {
		t.Errorf("commits:\n%s", text)
	}
	if text := a.run("--git-dir", repo, "cat-file", "commit", "audit"); !strings.Contains(text, "-----BEGIN SSH SIGNATURE-----") {
		t.Errorf("not signed:\n%s", text)
	}
	left, err := os.ReadDir(filepath.Join(h.opt.StateDir, waitingFolder))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// Somebody takes the name of the next release in the log: it goes beside that,
// and what follows is not held up.
func TestLogNameIsTaken(t *testing.T) {
	a := newAccess(t)
	repo := a.auditRepo()
	a.run("checkout", "--quiet", "--orphan", "audit")
	a.run("rm", "--quiet", "-r", "--force", ".")
	a.write("releases/1.json", "mine")
	a.commit("squat")
	a.run("push", "--quiet", repo, "audit")
	a.run("checkout", "--quiet", "main")
	h := a.syncer()
	h.opt.Audit.Remote = repo
	h.restart()
	h.once()
	a.commit("nothing")
	h.once()
	h.flush()
	log := a.logged(repo)
	var names []string
	for name := range log {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) != 3 || log["1.json"] != "mine" || !strings.HasPrefix(names[0], "1.") || names[2] != "2.json" {
		t.Errorf("log %v", names)
	}
	known, err := h.learn(t.Context(), h.audit.files(), nil)
	if err != nil || known.sequence != 2 || len(known.taken) != 2 {
		t.Errorf("learned %+v, %v", known, err)
	}
}

// A sync crashed between publishing a release and keeping it for the log.
func TestCrashBeforeTheLog(t *testing.T) {
	a := newAccess(t)
	repo := a.auditRepo()
	h := a.syncer()
	h.opt.Audit.Remote = repo
	h.restart()
	h.once()
	if err := os.RemoveAll(filepath.Join(h.opt.StateDir, waitingFolder)); err != nil {
		t.Fatal(err)
	}
	h.state.Kept = 0
	a.commit("nothing")
	h.once()
	h.flush()
	if log := a.logged(repo); log["1.json"] == "" || log["2.json"] == "" {
		t.Errorf("log %v", log)
	}
}

// With an empty state and without the log nothing is published: every approval would count from now.
func TestEmptyStateNeedsTheLog(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.opt.Audit.Remote = filepath.Join(t.TempDir(), "gone.git")
	h.restart()
	if r, err := h.Once(t.Context()); err == nil || r.Published || !strings.Contains(err.Error(), "log of releases") {
		t.Errorf("%+v, %v", r, err)
	}
}

// Watch fills the log by itself.
func TestWatchLogs(t *testing.T) {
	a := newAccess(t)
	repo := a.auditRepo()
	h := a.syncer()
	h.opt.Audit.Remote = repo
	h.restart()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Watch(ctx, 20*time.Millisecond) }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r := h.Status(); r.Sequence == 1 && r.Waiting == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not logged: %+v", h.Status())
		}
	}
	stop()
	<-ended
	if log := a.logged(repo); log["1.json"] == "" {
		t.Errorf("log %v", log)
	}
}

// A sync that lost its state, or was given an old copy of it, does not follow a branch
// that was rewound meanwhile: the log of releases says how far it had come.
func TestRewoundBeforeAnEarlierState(t *testing.T) {
	for name, state := range map[string]func(t *testing.T, h *harness, old string){
		"lost": func(t *testing.T, h *harness, _ string) { h.opt.StateDir = filepath.Join(t.TempDir(), "state") },
		"old":  func(_ *testing.T, h *harness, old string) { h.opt.StateDir = old },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t)
			h := a.syncer()
			h.opt.Audit.Remote = a.auditRepo()
			h.restart()
			h.expect("etl#1", "")
			h.flush()
			old := filepath.Join(t.TempDir(), "old")
			if err := os.CopyFS(old, os.DirFS(h.opt.StateDir)); err != nil {
				t.Fatal(err)
			}
			start := a.run("rev-parse", "HEAD")
			a.remove(reviewPath("etl"))
			revoked := a.commit("revoked")
			h.expect("", "")
			h.flush()
			a.run("reset", "--quiet", "--hard", start)
			a.write("README.md", "hello")
			to := a.commit("another history")
			state(t, h, old)
			h.restart()
			r, err := h.Once(t.Context())
			if !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), revoked) || r.Alarms[0].Kind != AlarmRollback || h.granted() != "" {
				t.Fatalf("%v, granted %q, alarms %+v", err, h.granted(), r.Alarms)
			}
			// The branch is put back: all goes on.
			a.run("reset", "--quiet", "--hard", revoked)
			h.expect("", "")
			_ = to
		})
	}
}

// Where the state is newer than what lies on the audit branch, or another sync was
// faster on the same branch, nothing is held up.
func TestLogOfAnotherSyncOnTheSameBranch(t *testing.T) {
	a := newAccess(t)
	one, two := a.syncer(), a.syncer()
	one.opt.Audit.Remote = a.auditRepo()
	two.opt.Audit.Remote, two.opt.Out = one.opt.Audit.Remote, one.opt.Out
	one.restart()
	two.restart()
	one.expect("etl#1", "")
	one.flush()
	two.once()
	two.flush()
	a.put(reviewPath("report"), review("report", 1, "app.items"))
	one.restart()
	one.expect("etl#1 report#1", "")
	one.flush()
	two.restart()
	two.out = one.out
	two.expect("etl#1 report#1", "")
}
