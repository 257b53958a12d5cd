package record

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mutant writes a changed recording beside nothing else and says which record Verify names.
type mutant struct {
	dir  string
	path string // of the recording
	sum  Summary
}

func newMutant(t testing.TB) (m *mutant, original []byte) {
	t.Helper()
	dir, sums := sealedSession(t, 1)
	s := sums[id(1)]
	m = &mutant{dir: dir, path: recordingFile(dir, s), sum: s}
	original, err := os.ReadFile(m.path)
	must(t, err)
	return m, original
}

func (m *mutant) verify(t testing.TB, content []byte) []Problem {
	t.Helper()
	must(t, os.WriteFile(m.path, content, 0o600))
	return verifyAll(t, m.dir, nil).Problems
}

func (m *mutant) wantRecord(t testing.TB, content []byte, record int64, what string) {
	t.Helper()
	got := m.verify(t, content)
	if len(got) != 1 || got[0].Record != record || got[0].Session != m.sum.Session {
		t.Errorf("%s: want record %d of %s named, have %v", what, record, m.sum.Session, got)
	}
}

func TestEachFlippedByteIsNamedWithItsRecord(t *testing.T) {
	m, original := newMutant(t)
	if p := m.verify(t, original); len(p) > 0 {
		t.Fatalf("the untouched recording does not hold: %v", p)
	}
	if len(original) < 4000 {
		t.Fatalf("the recording of %d bytes is too small for this test", len(original))
	}
	line := int64(1)
	random := rand.New(rand.NewSource(1))
	count := 0
	for i := range original {
		for _, flip := range []byte{1 << random.Intn(8), 0x20, byte(1 + random.Intn(255))} {
			changed := bytes.Clone(original)
			changed[i] ^= flip
			m.wantRecord(t, changed, line, fmt.Sprintf("byte %d ^ %#x", i, flip))
			count++
		}
		if t.Failed() {
			return
		}
		if original[i] == '\n' {
			line++
		}
	}
	if count < 10_000 {
		t.Errorf("only %d mutations were tried", count)
	}
}

func TestMovedRecordsAreNamed(t *testing.T) {
	m, original := newMutant(t)
	lines := bytes.SplitAfter(original, []byte("\n"))
	lines = lines[:len(lines)-1]
	n := int64(len(lines))
	for i := range lines {
		at := int64(i + 1)
		m.wantRecord(t, bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil), at, fmt.Sprintf("record %d dropped", at))
		m.wantRecord(t, bytes.Join(slices.Insert(slices.Clone(lines), i, lines[i]), nil), at+1, fmt.Sprintf("record %d twice", at))
		for k := i + 1; k < len(lines); k++ {
			swapped := slices.Clone(lines)
			swapped[i], swapped[k] = swapped[k], swapped[i]
			m.wantRecord(t, bytes.Join(swapped, nil), at, fmt.Sprintf("records %d and %d swapped", at, k+1))
		}
	}
	m.wantRecord(t, append(bytes.Clone(original), '\n'), n+1, "an empty line at the end")
	m.wantRecord(t, append(bytes.Clone(original), lines[n-2]...), n+1, "a record after the seal")
	m.wantRecord(t, append([]byte("\n"), original...), 1, "an empty line at the start")
}

func TestEachCutIsNamed(t *testing.T) {
	m, original := newMutant(t)
	for cut := range original {
		line := int64(bytes.Count(original[:cut], []byte("\n")) + 1)
		m.wantRecord(t, original[:cut], line, fmt.Sprintf("cut to %d bytes", cut))
		if t.Failed() {
			return
		}
	}
}

// rechain edits record number at and computes all digests after it anew, as
// somebody does who can write files but has only the given key.
func rechain(t testing.TB, original []byte, at int64, edit func(*Record), sign func([]byte) ([]byte, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	c := newChain()
	for l := range bytes.Lines(original) {
		r, err := decode(bytes.TrimSuffix(l, []byte("\n")))
		must(t, err)
		if r.Seq == at {
			edit(r)
		}
		if r.Type == TypeSeal {
			r.Statement = seals(c.tally.header, c.seq, c.prev, r.Time)
			if sign != nil {
				sig, err := sign([]byte(r.Statement))
				must(t, err)
				r.Signature = string(sig)
			}
		}
		start := out.Len()
		must(t, c.next(&out, r, r.Time))
		c.advance(r, bytes.Clone(out.Bytes()[start:]))
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func TestRechainedRecordingsAreFound(t *testing.T) {
	m, original := newMutant(t)
	lie := func(r *Record) { r.Command.Statement = "select 1" }
	seal := m.sum.Records
	m.wantRecord(t, rechain(t, original, 2, lie, nil), seal, "rechained, the old signature kept")
	m.wantRecord(t, rechain(t, original, 2, lie, signWith(testKey("mallory"))), seal, "rechained, signed with another key")
	m.wantRecord(t, rechain(t, original, 1, func(r *Record) { r.Header.Gateway = "gw2" }, signWith(testKey("gw1"))), seal, "claimed by another gateway")
	m.wantRecord(t, rechain(t, original, 1, func(r *Record) { r.Header.Session = id(2) }, signWith(testKey("gw1"))), 1, "made into another session")
	m.wantRecord(t, rechain(t, original, seal-1, func(r *Record) { r.Summary.Denied = 0 }, signWith(testKey("gw1"))), seal-1, "summary embellished")

	// With the gateway's own key only what is in git can tell.
	must(t, os.WriteFile(m.path, rechain(t, original, 2, lie, signWith(testKey("gw1"))), 0o600))
	verifyClean(t, m.dir, nil)
	r := verifyAll(t, m.dir, map[string]Summary{m.sum.Session: m.sum})
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Reason, "not the one that the audit trail confirms") {
		t.Errorf("rechained with the gateway's key: want the audit trail to contradict, have %v", r.Problems)
	}
}

func TestExchangedFilesAreNamed(t *testing.T) {
	dir, sums := sealedSession(t, 2)
	a, b := recordingFile(dir, sums[id(1)]), recordingFile(dir, sums[id(2)])
	must(t, os.Rename(a, a+".x"))
	must(t, os.Rename(b, a))
	must(t, os.Rename(a+".x", b))
	r := verifyAll(t, dir, sums)
	if len(r.Problems) != 2 || r.Problems[0].Record != 1 || r.Problems[1].Record != 1 {
		t.Errorf("want record 1 of both named, have %v", r.Problems)
	}
	other := filepath.Join(dir, recordingsDir, "2026", "11", "24")
	must(t, os.MkdirAll(other, 0o700))
	must(t, os.Rename(a, filepath.Join(other, filepath.Base(b))))
	if r := verifyAll(t, dir, nil); len(r.Problems) != 2 {
		t.Errorf("a recording on another day: have %v", r.Problems)
	}
}

func TestSplicedRecordingsAreFound(t *testing.T) {
	dir, sums := sealedSession(t, 2)
	a, err := os.ReadFile(recordingFile(dir, sums[id(1)]))
	must(t, err)
	b, err := os.ReadFile(recordingFile(dir, sums[id(2)]))
	must(t, err)
	la, lb := bytes.SplitAfter(a, []byte("\n")), bytes.SplitAfter(b, []byte("\n"))
	for cut := 1; cut < len(la)-1; cut++ {
		spliced := append(bytes.Join(la[:cut], nil), bytes.Join(lb[cut:], nil)...)
		must(t, os.WriteFile(recordingFile(dir, sums[id(1)]), spliced, 0o600))
		r := verifyAll(t, dir, nil)
		if len(r.Problems) != 1 || r.Problems[0].Session != id(1) {
			t.Errorf("spliced after record %d: have %v", cut, r.Problems)
		}
	}
}

func TestSummariesAndRecordingsAreJoined(t *testing.T) {
	dir, sums := sealedSession(t, 3)
	if r := verifyClean(t, dir, sums); r.Summaries != 3 || r.Recordings != 3 || len(r.Unconfirmed) > 0 {
		t.Errorf("have %+v", r)
	}
	must(t, os.Remove(recordingFile(dir, sums[id(2)])))
	r := verifyAll(t, dir, sums)
	if len(r.Problems) != 1 || r.Problems[0].Session != id(2) || !strings.HasPrefix(r.Problems[0].Reason, "missing") {
		t.Errorf("a removed recording: have %v", r.Problems)
	}
	delete(sums, id(2))
	changed := sums[id(1)]
	changed.Denied = 0
	sums[id(1)] = changed
	delete(sums, id(3))
	r = verifyAll(t, dir, sums)
	if len(r.Problems) != 1 || r.Problems[0].Session != id(1) || len(r.Unconfirmed) != 1 || r.Unconfirmed[0] != id(3) {
		t.Errorf("a changed and an absent summary: have %+v", r)
	}
}

func TestStrangeFilesHinderNothing(t *testing.T) {
	dir, sums := sealedSession(t, 2)
	days := filepath.Dir(recordingFile(dir, sums[id(1)]))
	outside := filepath.Join(t.TempDir(), "outside.jsonl")
	must(t, os.WriteFile(outside, []byte("{}\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(days, "notes.txt"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(days, id(7)+".jsonl"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(days, id(8)+".jsonl"), bytes.Repeat([]byte{0}, 4096), 0o600))
	must(t, os.Symlink(outside, filepath.Join(days, id(9)+".jsonl")))
	all, broken, err := List(dir)
	must(t, err)
	if len(all) != 2 || len(broken) != 4 {
		t.Errorf("want 2 recordings and 4 complaints, have %d and %v", len(all), broken)
	}
	r := verifyAll(t, dir, sums)
	if len(r.Problems) != 4 || r.Summaries != 2 {
		t.Errorf("want 4 problems and 2 confirmed, have %+v", r)
	}
	if _, err := Find(dir, "../../"+id(1)); err == nil {
		t.Error("Find takes a path for a session")
	}
}
