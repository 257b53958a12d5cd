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

func TestAMergedReviewIsReleased(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	r := h.expect("etl#1", "")
	if !r.Published || r.Commits != 1 || r.Sequence != 1 || r.Commit != a.run("rev-parse", "HEAD") {
		t.Errorf("result %+v", r)
	}
	if r := h.once(); r.Published {
		t.Error("published again although nothing changed")
	}
	merged := a.put(reviewPath("report"), review("report", 1, "app.items"))
	a.commit("something else")
	r = h.expect("etl#1 report#1", "")
	if r.Commits != 2 || r.Sequence != 2 {
		t.Errorf("result %+v", r)
	}
	v := h.release().Connections["orders-db"].Review("orders-db/report")
	if v.Commit != merged {
		t.Errorf("first commit %s, want %s", v.Commit, merged)
	}
	if want := a.clock.Add(-time.Minute); !v.ApprovedAt.Equal(want) {
		t.Errorf("approved at %s, want %s", v.ApprovedAt, want)
	}
	a.remove(reviewPath("etl"))
	a.commit("remove")
	h.expect("report#1", "")
	if s := h.release().Sequences["orders-db"]; s["etl"] != 1 || s["report"] != 1 {
		t.Errorf("highest sequences %v", s)
	}
}

// Only what was merged counts, in the order of merges.
func TestMergeOfABranch(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.run("checkout", "--quiet", "-b", "topic")
	a.put(reviewPath("report"), review("report", 3, "app.items"))
	a.put(reviewPath("report"), review("report", 2, "app.orders"))
	a.run("checkout", "--quiet", "main")
	a.clock = a.clock.Add(time.Minute)
	a.run("merge", "--quiet", "--no-ff", "-m", "merge", "topic")
	h.expect("etl#1 report#2", "")
	v := h.release().Connections["orders-db"].Review("orders-db/report")
	if v.Commit != a.run("rev-parse", "HEAD") {
		t.Errorf("first commit %s is not the merge", v.Commit)
	}
}

func TestHeartbeat(t *testing.T) {
	h := newAccess(t).syncer()
	first := h.once()
	h.now = h.now.Add(50 * time.Minute)
	if r := h.once(); r.Published {
		t.Error("published again after 50 minutes of three hours")
	}
	h.now = h.now.Add(20 * time.Minute)
	r := h.once()
	if !r.Published || r.Sequence != first.Sequence+1 || r.Commit != first.Commit || !r.ValidUntil.Equal(h.now.Add(3*time.Hour)) {
		t.Errorf("heartbeat: %+v", r)
	}
	if err := os.Rename(h.a.dir, h.a.dir+".away"); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(2 * time.Hour)
	if r, err := h.Once(context.Background()); err == nil || r.Published {
		t.Errorf("signed again without the remote: %+v, %v", r, err)
	}
	if err := os.Rename(h.a.dir+".away", h.a.dir); err != nil {
		t.Fatal(err)
	}
	if r := h.once(); !r.Published {
		t.Error("not signed again after the remote came back")
	}
}

// What a key approved in its time stands when that is over; what sync sees of it
// from then on does not count, whatever date it carries.
func TestAKeyRunsOutBetweenCommits(t *testing.T) {
	a := newAccess(t)
	ends := start.Add(24*time.Hour + 10*time.Minute)
	text := strings.Replace(a.root(), `"user:carol", keys: [{key: "`+line(a.people["user:carol"])+`"`,
		`"user:carol", keys: [{key: "`+line(a.people["user:carol"])+`", notAfter: "`+ends.Format(time.RFC3339)+`"`, 1)
	a.write(reviews.RootPath, text)
	a.sign(reviews.RootPath, "user:bob")
	a.pin = digest([]byte(text))
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	a.sign(reviewPath("report"), "user:carol")
	a.commit("carol approves")
	h := a.syncer()
	h.expect("etl#1 report#1", "")
	h.now = ends.Add(time.Second)
	h.expect("etl#1 report#1", "")
	a.write(reviewPath("late"), review("late", 1, "app.items"))
	a.sign(reviewPath("late"), "user:carol")
	a.commit("carol approves too late, and git has a date before")
	h.expect("etl#1 report#1", "the key expired at")
}

func TestRestartKeepsWhatWasSeen(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	h.restart()
	if r := h.once(); r.Published || r.Commits != 0 || r.Sequence != 1 {
		t.Errorf("after a restart: %+v", r)
	}
	if _, err := New(h.opt); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second sync on the same state: %v", err)
	}
	if err := os.Remove(filepath.Join(h.out, release.EnvelopeFile)); err != nil {
		t.Fatal(err)
	}
	if r := h.once(); !r.Published || r.Sequence != 2 {
		t.Errorf("the release was lost: %+v", r)
	}
}

// A lost state folder is rebuilt from the history, and the release after it is not lower.
func TestLostState(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.remove(reviewPath("etl"))
	a.commit("remove")
	h.once()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.opt.StateDir); err != nil {
		t.Fatal(err)
	}
	h.open()
	if r := h.expect("", ""); r.Sequence != 3 || h.release().Sequences["orders-db"]["etl"] != 1 {
		t.Errorf("rebuilt: %+v", r)
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.opt.StateDir, stateFile), []byte(`{"version":1,`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(h.opt); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
}

func TestForeignReleaseKey(t *testing.T) {
	a := newAccess(t)
	a.sync = newKey(t)
	h := a.syncer()
	if r, err := h.Once(context.Background()); err == nil || r.Published || !strings.Contains(err.Error(), ssh.FingerprintSHA256(a.sync.PublicKey())) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Remote: "r", StateDir: t.TempDir(), Out: release.Folder(t.TempDir()), Signer: newKey(t), TrustRoot: strings.Repeat("a", 64)}
	for name, change := range map[string]func(*Options){
		"remote": func(o *Options) { o.Remote = "" },
		"state":  func(o *Options) { o.StateDir = "" },
		"out":    func(o *Options) { o.Out = nil },
		"signer": func(o *Options) { o.Signer = nil },
		"pin":    func(o *Options) { o.TrustRoot = "" },
		"branch": func(o *Options) { o.Branch = "../x" },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s is not checked", name)
		}
	}
}

// A wake is a reason to look and nothing else: what was merged is published long
// before the next poll, a flood of wakes makes no more rounds than a few a second, and
// one that tells nothing new publishes nothing.
func TestWatchIsWoken(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	wake := make(chan struct{}, 1)
	h.opt.Wake = wake
	at, began := h.now, time.Now()
	h.opt.Now = func() time.Time { return at.Add(time.Since(began)) }
	h.restart()
	published := make(chan release.BuildInput, 10)
	h.publish = func(ctx context.Context, to release.Target, in release.BuildInput, signer ssh.Signer) (*release.Built, error) {
		built, err := publishRelease(ctx, to, in, signer)
		published <- in
		return built, err
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Watch(ctx, time.Hour) }()
	defer func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}()
	wait := func() (in release.BuildInput) {
		t.Helper()
		select {
		case in = <-published:
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing was published: %+v", h.Status())
		}
		return in
	}
	wait()
	for i := range 3 {
		id := a.put(reviewPath(fmt.Sprint("report", i)), review(fmt.Sprint("report", i), 1, "app.items"))
		wake <- struct{}{}
		if in := wait(); in.Commit != id {
			t.Errorf("published %s, want %s", in.Commit, id)
		}
	}
	rounds, last := 0, h.Status().Time
	for begun := time.Now(); time.Since(begun) < 1200*time.Millisecond; {
		select {
		case wake <- struct{}{}:
		case <-time.After(5 * time.Millisecond):
		}
		if ended := h.Status().Time; ended != last {
			rounds, last = rounds+1, ended
		}
	}
	if rounds < 1 || rounds > 4 || len(published) > 0 {
		t.Errorf("a flood of wakes: %d rounds, %d releases", rounds, len(published))
	}
}

// Watch publishes what is merged while it runs, and ends with its context.
func TestWatch(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	published := make(chan release.BuildInput, 10)
	h.publish = func(ctx context.Context, to release.Target, in release.BuildInput, signer ssh.Signer) (*release.Built, error) {
		built, err := publishRelease(ctx, to, in, signer)
		published <- in
		return built, err
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Watch(ctx, 20*time.Millisecond) }()
	next := func() release.BuildInput {
		t.Helper()
		select {
		case in := <-published:
			return in
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing was published: %+v", h.Status())
			return release.BuildInput{}
		}
	}
	next()
	id := a.put(reviewPath("report"), review("report", 1, "app.items"))
	if in := next(); in.Commit != id || in.Sequence != 2 {
		t.Errorf("published %s as %d", in.Commit, in.Sequence)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
