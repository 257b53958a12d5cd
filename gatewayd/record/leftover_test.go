package record

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A session's records lie in several segments, and each is removed on its own
// once nobody needs it. Killed in between, a gateway leaves part of the journal
// of a session whose recording is whole.

// crashed is the folder of a gateway that was killed right after session 1 was
// sealed: the journal still has its end, in a segment that session 2 needs.
func crashed(t *testing.T) (dir string, sealed Summary) {
	t.Helper()
	o := testOptions(t.TempDir())
	o.SegmentSize = 8 << 10
	j := testJournal(t, o)
	s := begin(t, j, 1)
	for j.segments < 3 {
		run(t, s, "select 1", strings.Repeat("x", 500))
	}
	open := begin(t, j, 2)
	run(t, open, "select 2", "2\n")
	sealed = closeSession(t, s)
	dir = t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(o.Dir)))
	must(t, os.Remove(filepath.Join(dir, journalDir, "lock")))
	if left, err := segmentPaths(dir); err != nil || len(left) != 1 {
		t.Fatalf("want one segment left by the crash, have %v (%v)", left, err)
	}
	return dir, sealed
}

// reopen recovers a folder on a later day and returns what was complained about.
func reopen(t *testing.T, dir string) (complaints string, recovered map[string]Summary) {
	t.Helper()
	var log bytes.Buffer
	recovered = map[string]Summary{}
	o := testOptions(dir)
	o.Now = func() time.Time { return time.Date(2026, 11, 25, 0, 0, 1, 0, time.UTC) }
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	o.Recovered = func(s Summary) { recovered[s.Session] = s }
	must(t, testJournal(t, o).Close())
	return log.String(), recovered
}

func wantNoSegments(t *testing.T, dir string) {
	t.Helper()
	left, err := segmentPaths(dir)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("segments left after recovery and close: %v", left)
	}
}

func damagedSegments(t *testing.T, dir string) []string {
	t.Helper()
	kept, err := filepath.Glob(filepath.Join(dir, journalDir, damagedDir, "*.log"))
	must(t, err)
	return kept
}

func TestTheRestOfASealedSessionIsForgotten(t *testing.T) {
	dir, sealed := crashed(t)
	before, err := os.ReadFile(recordingFile(dir, sealed))
	must(t, err)
	complaints, recovered := reopen(t, dir)
	if complaints != "" {
		t.Errorf("recovery complains: %s", complaints)
	}
	if recovered[id(1)].Digest != sealed.Digest || recovered[id(2)].End != EndUnknown || len(recovered) != 2 {
		t.Errorf("recovered: %+v", recovered)
	}
	wantNoSegments(t, dir)
	if kept := damagedSegments(t, dir); len(kept) > 0 {
		t.Errorf("kept as damaged: %v", kept)
	}
	if r := verifyClean(t, dir, nil); r.Recordings != 2 {
		t.Errorf("want 2 recordings, have %+v", r)
	}
	after, err := os.ReadFile(recordingFile(dir, sealed))
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("recovery changed a sealed recording")
	}
}

// What the journal has beyond the sealed recording is evidence.
func TestForeignRecordsOfASealedSessionAreKept(t *testing.T) {
	dir, sealed := crashed(t)
	left, err := segmentPaths(dir)
	must(t, err)
	text, err := os.ReadFile(left[0])
	must(t, err)
	forged := bytes.Replace(text, []byte(`"outcome":"done"`), []byte(`"outcome":"fine"`), 1)
	if bytes.Equal(text, forged) {
		t.Fatal("the segment has nothing to forge")
	}
	must(t, os.WriteFile(left[0], forged, 0o600))
	complaints, recovered := reopen(t, dir)
	if !strings.Contains(complaints, id(1)) || !strings.Contains(complaints, "damaged") {
		t.Errorf("recovery does not tell: %q", complaints)
	}
	if recovered[id(1)].Digest != sealed.Digest {
		t.Errorf("the sealed recording does not stand: %+v", recovered[id(1)])
	}
	wantNoSegments(t, dir)
	kept := damagedSegments(t, dir)
	if len(kept) != 1 {
		t.Fatalf("want the segment kept, have %v", kept)
	}
	if b, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(b, forged) {
		t.Errorf("the segment was changed: %v", err)
	}
	if r := verifyClean(t, dir, nil); r.Recordings != 2 {
		t.Errorf("want 2 recordings, have %+v", r)
	}
}
