package record

import (
	"bytes"
	"fmt"
	"io"
	"iter"
)

// Problem is one thing that a recording or the audit trail gets wrong.
type Problem struct {
	Session string `json:"session"`
	Path    string `json:"path,omitempty"`   // below the recordings folder; "" in the journal
	Record  int64  `json:"record,omitempty"` // the first bad record, from 1; 0: the recording as a whole
	Commit  string `json:"commit,omitempty"` // of the audit branch; Path is then below its root
	Reason  string `json:"reason"`
}

// Error is String.
func (p *Problem) Error() string { return p.String() }

// String names the recording, the record and what is wrong with it.
func (p Problem) String() string {
	where := p.Path
	switch {
	case p.Commit != "" && where != "":
		where = "audit commit " + p.Commit + ": " + where
	case p.Commit != "":
		where = "audit commit " + p.Commit
	case where == "":
		where = "session " + p.Session
	}
	if p.Record > 0 {
		where += fmt.Sprintf(": record %d", p.Record)
	}
	return where + ": " + p.Reason
}

// lineSource hands out lines without line feeds; io.EOF ends them, errTorn a last one without line feed.
type lineSource interface{ next() ([]byte, error) }

// walker reads records and holds each back until the next one has confirmed it.
type walker struct {
	from  lineSource
	open  bool // still in the journal: need not be sealed, may end torn
	chain chain
	line  []byte // line number chain.seq+1, when read
	err   error  // why there is none
}

// walk yields the records of a recording that are as they were written. The
// first that is not ends it with a *Problem.
func walk(from lineSource, open bool) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		w := &walker{from: from, open: open, chain: newChain()}
		w.read()
		var held *Record
		for {
			r, p := w.step()
			if p != nil && p.Record == w.chain.seq {
				held = nil // it is the held one that is bad
			}
			if held != nil && !yield(held, nil) {
				return
			}
			if p != nil {
				yield(nil, p)
				return
			}
			if r == nil {
				return
			}
			held = r
		}
	}
}

func (w *walker) read() {
	line, err := w.from.next()
	w.line, w.err = bytes.Clone(line), err
}

// step returns the next record, nil at the end, or what is wrong.
func (w *walker) step() (*Record, *Problem) {
	seq := w.chain.seq + 1
	switch {
	case w.err == io.EOF && (w.open || w.chain.tally.sealed), w.err == errTorn && w.open:
		return nil, nil
	case w.err == io.EOF:
		return nil, &Problem{Record: seq, Reason: "missing: the recording ends without the gateway's seal, so its end was cut off"}
	case w.err != nil:
		return nil, &Problem{Record: seq, Reason: w.err.Error()}
	}
	line := w.line
	before := w.chain.prev
	r, err := w.chain.follow(line)
	w.read()
	if err == errBroken {
		return nil, &Problem{Record: w.blame(line, seq), Reason: "its bytes were changed: the hash chain is broken"}
	}
	if err == nil && r.Type == TypeSeal {
		err = w.sealed(r, before)
	}
	if err != nil {
		return nil, &Problem{Record: seq, Reason: err.Error()}
	}
	return r, nil
}

// blame tells which of two neighbours was changed when record seq does not
// carry the digest of the one before: a third party that saw one of them decides.
func (w *walker) blame(line []byte, seq int64) int64 {
	if seq == 1 {
		return 1
	}
	if r, err := decode(line); err == nil && r.Type == TypeSeal {
		if r.Statement == seals(w.chain.tally.header, w.chain.seq, w.chain.prev, r.Time) {
			return seq
		}
		return seq - 1
	}
	if next, err := decode(w.line); err == nil && next.Prev == digestLine(line) {
		return seq - 1
	}
	return seq
}

// sealed checks a seal in everything but its signature. What nothing hashes
// must have only one way to be written.
func (w *walker) sealed(r *Record, head string) error {
	var b bytes.Buffer
	if err := encode(&b, r); err != nil || !bytes.Equal(b.Bytes(), r.Line) {
		return fmt.Errorf("the seal's bytes were changed")
	}
	if r.Statement != seals(w.chain.tally.header, r.Seq-1, head, r.Time) {
		return fmt.Errorf("the seal is over another recording")
	}
	return plainArmor(r.Signature)
}
