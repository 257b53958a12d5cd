package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// auditWorld is a gateway's recordings and a remote for its summaries.
type auditWorld struct {
	*testing.T
	config *Config
	remote string
	n      int
}

func newAuditWorld(t *testing.T) *auditWorld {
	t.Setenv("HOME", t.TempDir())
	w := &auditWorld{T: t, remote: filepath.Join(t.TempDir(), "remote.git")}
	if out, err := exec.Command("git", "init", "--quiet", "--bare", w.remote).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	w.config = &Config{Name: "gw1", State: t.TempDir(), Recordings: Recordings{Dir: t.TempDir()}}
	w.config.Audit.Repository, w.config.Audit.Branch = w.remote, "audit"
	return w
}

func (w *auditWorld) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *auditWorld) audit() *audit {
	w.Helper()
	a, err := newAudit(w.config, &gatewayKey{signer: accesstest.Signer("gw1")}, slog.New(slog.DiscardHandler))
	w.must(err)
	return a
}

// record records sessions with a denied command each, and a refused login.
func (w *auditWorld) record(sessions int) (all []record.Summary) {
	w.Helper()
	j, err := record.Open(record.Options{Dir: w.config.Recordings.Dir, Gateway: "gw1", Sign: func(m []byte) ([]byte, error) {
		return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
	}})
	w.must(err)
	for range sessions {
		w.n++
		s, err := j.Begin(record.Header{Session: fmt.Sprintf("s-%016x", w.n), Principal: "agent:etl", Started: time.Now(), Approvers: []string{}})
		w.must(err)
		_, err = s.Command(record.Command{Statement: "drop table t", Verdict: policies.Deny, Rule: "default", Reason: "no", Denial: "d-12345678"})
		w.must(err)
		sum, err := s.Close("closed")
		w.must(err)
		all = append(all, sum)
	}
	w.n++
	denied, err := j.Denied(record.Summary{Session: fmt.Sprintf("a-%016x", w.n), Principal: "agent:x", Started: time.Now(), Ended: time.Now(), Denied: 1,
		Denials: []record.Denial{{ID: "d-87654321", Time: time.Now(), Rule: "review_missing", Reason: "no"}}})
	w.must(err)
	w.must(j.Close())
	return append(all, denied)
}

func (w *auditWorld) git(args ...string) string {
	w.Helper()
	out, err := exec.Command("git", append([]string{"-C", w.remote}, args...)...).CombinedOutput()
	if err != nil {
		w.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *auditWorld) files() string { return w.git("ls-tree", "-r", "--name-only", "audit") }

func (w *auditWorld) wantFiles(sums []record.Summary) {
	w.Helper()
	files := strings.Split(w.files(), "\n")
	for _, s := range sums {
		if !strings.Contains(w.files(), s.Path()) {
			w.Errorf("%s is not on the audit branch", s.Path())
		}
	}
	if len(files) != len(sums) {
		w.Errorf("want %d summaries, have %v", len(sums), files)
	}
}

// Killed after a recording was sealed and before its summary was written.
func TestLostSummariesAreFoundInTheRecordings(t *testing.T) {
	w := newAuditWorld(t)
	a := w.audit()
	all := w.record(3)
	a.keep(all[0]) // the only one that the state folder got
	if !a.commit(t.Context()) {
		t.Fatal(a.status().LastError)
	}
	w.must(a.complete(t.Context()))
	if waiting := a.status().Waiting; waiting != 3 {
		t.Errorf("want the 3 that git lacks, have %d waiting", waiting)
	}
	a.commit(t.Context())
	w.wantFiles(all)

	// What is found again has the bytes that were kept the first time: nothing conflicts.
	w.must(os.Remove(filepath.Join(w.config.State, completeFile)))
	for s, err := range record.Summaries(w.config.Recordings.Dir, time.Time{}) {
		w.must(err)
		a.keep(s)
	}
	if !a.commit(t.Context()) || a.status().LastError != "" {
		t.Errorf("keeping all again: %+v", a.status())
	}
	w.wantFiles(all)

	// Later starts look only at what is new.
	w.must(a.complete(t.Context()))
	all = append(all, w.record(1)...)
	w.must(a.complete(t.Context()))
	a.commit(t.Context())
	w.wantFiles(all)
	if left := a.status(); left.Waiting != 0 {
		t.Errorf("have %+v", left)
	}
}

func TestWithoutTheRemoteNothingIsTakenForComplete(t *testing.T) {
	w := newAuditWorld(t)
	a := w.audit()
	all := w.record(1)
	w.must(os.Rename(w.remote, w.remote+".away"))
	if err := a.complete(t.Context()); err == nil {
		t.Error("complete without the remote")
	}
	w.must(os.Rename(w.remote+".away", w.remote))
	ctx, stop := context.WithCancel(t.Context())
	w.config.Audit.Every = 1
	done := make(chan struct{})
	go func() { a.run(ctx); close(done) }()
	for deadline := time.Now().Add(20 * time.Second); a.status().Committed.IsZero(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not committed", a.status())
		}
	}
	stop()
	<-done
	w.wantFiles(all)
}

// Somebody with access to the remote has put something where a summary goes.
func TestASquattedPathHindersNoOther(t *testing.T) {
	w := newAuditWorld(t)
	a := w.audit()
	all := w.record(2)
	mirror, err := gitrepo.Open(t.TempDir(), w.remote, gitrepo.Options{})
	w.must(err)
	_, err = mirror.Add(t.Context(), gitrepo.Addition{
		Branch: "audit", Files: map[string][]byte{all[1].Path(): []byte("{}\n")}, Message: "squat", Time: time.Now(),
		Author: gitrepo.Identity{Name: "mallory", Email: "m@example.com"},
		Sign: func(m []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("mallory"), reviews.NamespaceGit, m)
		},
	})
	w.must(err)
	for _, s := range all {
		a.keep(s)
	}
	for range 2 {
		a.commit(t.Context())
		w.wantFiles(all)
		st := a.status()
		if st.Waiting != 1 || !strings.Contains(st.LastError, all[1].Session) || !strings.Contains(st.LastError, "somebody else") {
			t.Errorf("status: %+v", st)
		}
	}
	later := w.record(1)
	for _, s := range later {
		a.keep(s)
	}
	a.commit(t.Context())
	w.wantFiles(append(all, later...))
}

// verify tells a delay from a loss by the order of commits.
func TestTheOldestAreCommittedFirst(t *testing.T) {
	w := newAuditWorld(t)
	a := w.audit()
	all := w.record(5)
	for i, s := range all {
		a.keep(s)
		at := time.Now().Add(-time.Duration(i) * time.Minute) // the last is the oldest
		w.must(os.Chtimes(filepath.Join(a.dir, s.Session+".json"), at, at))
	}
	names, _, err := a.batch()
	w.must(err)
	for i, n := range names {
		if want := all[len(all)-1-i].Session + ".json"; n != want {
			t.Errorf("at %d: want %s, have %s", i, want, n)
		}
	}
}
