package record

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// counting is a segment that counts its writes and fails them when told to.
type counting struct {
	file
	writes *int
	fail   *error
}

func (c counting) Write(b []byte) (int, error) {
	if *c.fail != nil {
		return 0, *c.fail
	}
	*c.writes++
	return c.file.Write(b)
}

// A command with one answer costs two writes: one before it goes to the target,
// one before its answer goes to the client.
func TestFinishIsOneWrite(t *testing.T) {
	o := testOptions(t.TempDir())
	o.OutputCap = 10
	j, err := newJournal(o)
	must(t, err)
	writes, fail := 0, error(nil)
	j.create = func(path string) (file, error) {
		f, err := openAppend(path)
		return counting{f, &writes, &fail}, err
	}
	must(t, j.start())
	t.Cleanup(func() { j.Close() })
	s := begin(t, j, 1)
	other := begin(t, j, 2)
	before := writes
	n, err := s.Command(allowed("select 1"))
	must(t, err)
	must(t, s.Finish(n, "rows", []byte("0123456789 and more"), Result{Outcome: "done", Rows: 1}))
	if writes-before != 2 {
		t.Errorf("%d writes", writes-before)
	}
	must(t, closeErr(s))
	got := records(t, o.Dir, id(1))
	if kinds := types(t, o.Dir, id(1)); !slices.Equal(kinds, []Type{TypeOpen, TypeCommand, TypeOutput, TypeTruncated, TypeResult, TypeClose, TypeSeal}) {
		t.Fatalf("%v", kinds)
	}
	if got[2].Data != "0123456789" || got[3].Left != 9 || got[4].Result.Rows != 1 {
		t.Errorf("%+v %+v %+v", got[2], got[3], got[4].Result)
	}

	// When it fails, neither is recorded and nothing may leave.
	n, err = other.Command(allowed("select 2"))
	must(t, err)
	fail = errors.New("no space")
	if err := other.Finish(n, "rows", []byte("x"), Result{Outcome: "done"}); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("Finish on a full disk: %v", err)
	}
	fail = nil
	for j.Err() != nil {
		j.mu.Lock()
		j.reopen()
		j.mu.Unlock()
	}
	must(t, closeErr(other))
	last := records(t, o.Dir, id(2))
	if kinds := types(t, o.Dir, id(2)); !slices.Equal(kinds, []Type{TypeOpen, TypeCommand, TypeResult, TypeClose, TypeSeal}) || last[2].Result.Outcome != OutcomeUnknown {
		t.Errorf("%v", kinds)
	}
	must(t, j.Close())
	verifyClean(t, o.Dir, nil)
}

func closeErr(s *Session) error {
	_, err := s.Close("closed")
	return err
}
