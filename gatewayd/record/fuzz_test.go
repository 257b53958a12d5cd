package record

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// A line is a record or an error; what is a record can be written and read again.
func FuzzRecord(f *testing.F) {
	_, original := newMutant(f)
	for line := range bytes.Lines(original) {
		f.Add(bytes.TrimSuffix(line, []byte("\n")))
	}
	f.Add([]byte(`{"type":"command","n":1,"command":{},"raw":{"parameters[0]":"/w=="}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := decode(line)
		if (r == nil) == (err == nil) {
			t.Fatal("neither a record nor an error")
		}
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := encode(&out, r); err != nil {
			return // longer than a record may be
		}
		again, err := decode(out.Bytes())
		if err != nil {
			t.Fatalf("%q was written as %q: %v", line, out.Bytes(), err)
		}
		if again.Type != r.Type || again.Seq != r.Seq || again.N != r.N {
			t.Fatalf("%q was written as %q", line, out.Bytes())
		}
	})
}

// A recording that was changed anywhere does not verify, and every reader ends with an answer.
func FuzzRecording(f *testing.F) {
	m, original := newMutant(f)
	f.Add(original)
	f.Add(original[:len(original)/2])
	f.Add(bytes.Replace(original, []byte("\n"), []byte("\n\n"), 1))
	f.Add([]byte{})
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if problems := m.verify(t, b); len(problems) == 0 && !bytes.Equal(b, original) {
			t.Fatalf("verified: %q", b)
		}
		r, err := readAsReplay(m, b)
		if err == nil && r.Summary == nil {
			t.Fatal("a sealed recording without a summary")
		}
	})
}

// readAsReplay reads the recording as replay does.
func readAsReplay(m *mutant, b []byte) (*Recording, error) {
	return readSealed(m.sum.Recording, func() (*os.File, error) { return os.Open(m.path) })
}

// A summary of the audit branch stands at its own path, and says what it says in one way.
func FuzzSummary(f *testing.F) {
	_, sums := sealedSession(f, 1)
	for _, s := range sums {
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Path(), b)
		f.Add(s.Path(), append(b, ' ', '{', '}'))
		f.Add("summaries/../x.json", b)
	}
	f.Fuzz(func(t *testing.T, path string, b []byte) {
		s, err := ParseSummary(path, b)
		if err == nil && s.Path() != path {
			t.Fatalf("the summary of %s is taken at %q", s.Path(), path)
		}
	})
}

// Whatever a crash leaves of the journal: a gateway starts or says why not, what it recovers verifies, and what it
// cannot read it keeps.
func FuzzLeftover(f *testing.F) {
	o := testOptions(f.TempDir())
	j := testJournal(f, o)
	s := begin(f, j, 1)
	run(f, s, "select 1", "1\n")
	paths, err := segmentPaths(o.Dir)
	if err != nil || len(paths) != 1 {
		f.Fatal(paths, err)
	}
	good, err := os.ReadFile(paths[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-7])
	f.Add(bytes.Replace(good, []byte("\n"), []byte("\n\x00\n"), 1))
	f.Add(append(bytes.Clone(good), good...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		o := testOptions(t.TempDir())
		o.Log = slog.New(slog.DiscardHandler)
		path := filepath.Join(o.Dir, journalDir, "00000001.log")
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, b, 0o600))
		j, err := Open(o)
		if err != nil {
			if now, errRead := os.ReadFile(path); errRead != nil || !bytes.Equal(now, b) {
				t.Fatalf("it does not start (%v), and the journal is not as it was (%v)", err, errRead)
			}
			return
		}
		must(t, j.Close())
		for _, p := range verifyAll(t, o.Dir, nil).Problems {
			if p.Path != "" && p.Record > 0 && bytes.Equal(b, good) {
				t.Fatalf("what was recovered does not verify: %s", p)
			}
		}
	})
}
