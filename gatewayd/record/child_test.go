package record

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary runs itself to be killed or limited.
const (
	childEnv = "SALLYPORT_RECORD_TEST_CHILD" // what the child does
	childDir = "SALLYPORT_RECORD_TEST_DIR"
)

func childCommand(t testing.TB, what, dir string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+what, childDir+"="+dir)
	c.Stderr = os.Stderr
	return c
}

func child(what string) int {
	o := testOptions(os.Getenv(childDir))
	var err error
	switch what {
	case "load-fsync":
		err = childLoad(o)
	case "load-process":
		o.Durability = DurabilityProcess
		err = childLoad(o)
	case "full":
		err = childFull(o)
	case "readonly":
		err = childReadOnly(o)
	default:
		if point, ok := strings.CutPrefix(what, "crash "); ok {
			err = childCrash(o, point)
			break
		}
		err = fmt.Errorf("no such child %q", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// childCrash records until it kills itself the n-th time that it comes to a moment: "moment n".
func childCrash(o Options, at string) error {
	var point string
	var n int
	if _, err := fmt.Sscan(at, &point, &n); err != nil {
		return err
	}
	o.SegmentSize = 16 << 10
	j, err := newJournal(o)
	if err != nil {
		return err
	}
	var met atomic.Int64
	j.crash = func(here string) {
		if here == point && met.Add(1) == int64(n) {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing of this process happens after it
		}
	}
	if err := j.start(); err != nil {
		return err
	}
	return load(j, 97) // few: an open session keeps its segment
}

// childLoad records until it is killed and says on stdout what was acknowledged.
func childLoad(o Options) error {
	o.SegmentSize = 64 << 10
	j, err := Open(o)
	if err != nil {
		return err
	}
	return load(j, 4)
}

// load records sessions, of which each so many-th stays open for ever.
func load(j *Journal, each int) error {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	failed := make(chan error)
	for w := range 4 {
		go func() {
			for n := w; ; n += 4 {
				if err := childSession(j, n+1, each, say); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// childSession records one session.
func childSession(j *Journal, n, each int, say func(string, ...any)) error {
	h := header(n)
	h.Started = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	s, err := j.Begin(h)
	if err != nil {
		return err
	}
	for i := range 10 {
		k, err := s.Command(allowed(fmt.Sprintf("select %d", i)))
		if err != nil {
			return err
		}
		if err := s.Barrier(context.Background()); err != nil {
			return err
		}
		say("command %s %d", s.id, k)
		output := []byte(strings.Repeat("x", 100*i))
		if i%2 == 1 {
			if err := s.Finish(k, "rows", output, Result{Outcome: "done"}); err != nil {
				return err
			}
			say("output %s %d", s.id, k)
			continue
		}
		if _, _, err := s.Output(k, "rows", output); err != nil {
			return err
		}
		say("output %s %d", s.id, k)
		if err := s.Result(k, Result{Outcome: "done"}); err != nil {
			return err
		}
	}
	if n%each == 0 {
		return nil
	}
	_, err = s.Close("closed")
	say("closed %s 0", s.id)
	return err
}

func TestKilledGatewayLosesNothingAcknowledged(t *testing.T) {
	for _, mode := range []string{"load-fsync", "load-process"} {
		t.Run(mode, func(t *testing.T) {
			for round := range 6 {
				killOnce(t, mode, 60+200*round)
			}
		})
	}
}

// Killed at each moment that matters, early and late.
func TestCrashAtEachNamedPoint(t *testing.T) {
	for _, point := range []string{beforeAppend, afterAppend, beforeSync, afterSync, segmentMade, midRecording, beforePlace, afterPlace, afterDrop} {
		t.Run(point, func(t *testing.T) {
			for _, n := range []int{1, 2, 7, 19} {
				if point == segmentMade && n == 1 {
					continue // nothing has been recorded then
				}
				killOnce(t, fmt.Sprintf("crash %s %d", point, n), -1)
			}
		})
	}
}

// killOnce kills a child after so many acknowledgements, if it does not do it itself, and recovers.
func killOnce(t *testing.T, mode string, after int) {
	t.Helper()
	dir := t.TempDir()
	c := childCommand(t, mode, dir)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	acked := map[string]bool{}
	closed := map[string]bool{}
	in := bufio.NewScanner(out)
	for n := 0; in.Scan(); n++ {
		var kind, session string
		var k int64
		if _, err := fmt.Sscan(in.Text(), &kind, &session, &k); err != nil {
			break // cut by the kill
		}
		acked[fmt.Sprint(kind, session, k)] = true
		closed[session] = closed[session] || kind == "closed"
		if n == after {
			must(t, c.Process.Signal(syscall.SIGKILL))
		}
	}
	c.Wait()
	if status := c.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("%s: the child was not killed: %v", mode, c.ProcessState)
	}

	recovered := map[string]Summary{}
	o := testOptions(dir)
	o.Recovered = func(s Summary) { recovered[s.Session] = s }
	j := testJournal(t, o)
	must(t, j.Close())
	verifyClean(t, dir, recoveredOnly(t, dir))
	all, broken, err := List(dir)
	must(t, err)
	if len(broken) > 0 {
		t.Fatalf("broken recordings after recovery: %v", broken)
	}
	found := map[string]bool{}
	for _, r := range all {
		if r.Open {
			t.Errorf("%s is still open after recovery", r.Session)
		}
		for rec, err := range r.Records() {
			must(t, err)
			switch rec.Type {
			case TypeCommand:
				found[fmt.Sprint("command", r.Session, rec.N)] = true
			case TypeOutput:
				found[fmt.Sprint("output", r.Session, rec.N)] = true
			case TypeClose:
				found[fmt.Sprint("closed", r.Session, 0)] = rec.Summary.End == "closed"
			}
		}
		if !closed[r.Session] && r.Summary.End == EndUnknown && recovered[r.Session].Digest != r.Summary.Digest {
			t.Errorf("%s was recovered, but Recovered was told %+v", r.Session, recovered[r.Session])
		}
	}
	for what := range acked {
		if !found[what] && !strings.HasPrefix(what, "outputs") { // output 0 is empty: no record
			t.Errorf("acknowledged and not recorded: %s", what)
		}
	}
	for what := range acked {
		if rest, ok := strings.CutPrefix(what, "output"); ok && !strings.HasSuffix(what, " 1") && !found["output"+rest] && !firstCommand(rest) {
			t.Errorf("released and not recorded: %s", what)
		}
	}
	wantNoSegments(t, dir)
	if kept := damagedSegments(t, dir); len(kept) > 0 {
		t.Errorf("a kill damages nothing, but these are kept: %v", kept)
	}
}

// firstCommand says whether "s-<16 hex>N" is the first command, whose output is empty.
func firstCommand(rest string) bool {
	return rest[len("s-")+16:] == "1" || strings.TrimSpace(rest[len("s-")+16:]) == "1"
}

func recoveredOnly(t testing.TB, dir string) map[string]Summary {
	t.Helper()
	all := map[string]Summary{}
	for s, err := range Summaries(dir, time.Time{}) {
		must(t, err)
		all[s.Session] = s
	}
	return all
}

// limit makes files of this process end at n bytes, as a full disk does.
func limit(n uint64) error {
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: unix.RLIM_INFINITY})
}

func childFull(o Options) error {
	signal.Ignore(syscall.SIGXFSZ)
	var late []Summary
	var mu sync.Mutex
	o.Recovered = func(s Summary) { mu.Lock(); late = append(late, s); mu.Unlock() }
	j, err := Open(o)
	if err != nil {
		return err
	}
	s, err := j.Begin(header(1))
	if err != nil {
		return err
	}
	idle, err := j.Begin(header(2))
	if err != nil {
		return err
	}
	if err := idle.Barrier(context.Background()); err != nil {
		return err
	}
	if err := limit(20 << 10); err != nil {
		return err
	}
	var failed error
	for i := 0; failed == nil; i++ {
		if _, err := s.Command(allowed(strings.Repeat("x", 1000))); err != nil {
			failed = err
		}
		if i > 100 {
			return fmt.Errorf("the disk did not fill up")
		}
	}
	if !strings.Contains(failed.Error(), "file too large") || j.Err() == nil {
		return fmt.Errorf("append says %v, Err says %v", failed, j.Err())
	}
	if err := s.Barrier(context.Background()); err == nil {
		return fmt.Errorf("a barrier passed on a full disk")
	}
	if _, err := idle.Command(allowed("select 1")); err == nil {
		return fmt.Errorf("another session goes on on a full disk")
	}
	if _, err := j.Begin(header(3)); err == nil {
		return fmt.Errorf("a session began on a full disk")
	}
	if _, err := j.Denied(Summary{Session: "a-0000000000000001"}); err == nil {
		return fmt.Errorf("a denial was recorded on a full disk")
	}
	sum, err := s.Close("recording_unavailable")
	if err == nil {
		return fmt.Errorf("the recording fits on a full disk")
	}
	if sum.Digest != "" || sum.End != "recording_unavailable" {
		return fmt.Errorf("summary without a recording: %+v", sum)
	}
	freed := time.Now()
	if err := limit(unix.RLIM_INFINITY); err != nil {
		return err
	}
	for j.Err() != nil {
		if time.Since(freed) > 5*time.Second {
			return fmt.Errorf("still failing 5 s after space returned: %w", j.Err())
		}
		time.Sleep(5 * time.Millisecond)
	}
	for {
		mu.Lock()
		n := len(late)
		mu.Unlock()
		if n == 1 {
			break
		}
		if time.Since(freed) > 6*time.Second {
			return fmt.Errorf("the recording was not written after space returned")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if late[0].Session != id(1) || late[0].End != "recording_unavailable" || late[0].Digest == "" {
		return fmt.Errorf("late summary: %+v", late[0])
	}
	if _, err := idle.Command(allowed("select 1")); err != nil {
		return fmt.Errorf("the idle session, of which nothing is lost, cannot go on: %w", err)
	}
	if _, err := idle.Close("closed"); err != nil {
		return err
	}
	return j.Close()
}

func TestFullDiskStopsEverythingAndRecovers(t *testing.T) {
	dir := t.TempDir()
	must(t, childCommand(t, "full", dir).Run())
	r := verifyClean(t, dir, nil)
	if r.Recordings != 2 {
		t.Errorf("want 2 recordings, have %+v", r)
	}
	if got := types(t, dir, id(2)); len(got) != 5 { // open command result close seal
		t.Errorf("idle session: %v", got)
	}
}

func childReadOnly(o Options) error {
	if os.Geteuid() == 0 {
		if err := syscall.Setgid(65534); err != nil {
			return err
		}
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	_, err := Open(o)
	if err == nil {
		return fmt.Errorf("a read-only folder was opened")
	}
	if !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), o.Dir) {
		return fmt.Errorf("the error does not say what is wrong: %w", err)
	}
	return nil
}

func TestReadOnlyFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o555))
	must(t, childCommand(t, "readonly", dir).Run())
}
