package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// settle makes the recording of an ended session out of its journal lines,
// and only then lets the journal forget them. end is how the session ended,
// for a journal that does not say. Callers hold s.mu.
func (j *Journal) settle(s *Session, end string) (Summary, error) {
	if err := os.MkdirAll(filepath.Join(j.opt.Dir, recordingsDir), 0o700); err != nil {
		return Summary{}, err
	}
	root, err := os.OpenRoot(filepath.Join(j.opt.Dir, recordingsDir))
	if err != nil {
		return Summary{}, err
	}
	defer root.Close()
	w := &splitter{j: j, s: s, root: root, end: end, chain: newChain()}
	sum, err := w.split()
	if err != nil {
		return Summary{}, err
	}
	j.release(s)
	return sum, nil
}

// splitter writes one recording.
type splitter struct {
	j     *Journal
	s     *Session
	root  *os.Root
	end   string
	chain chain
	out   *bufio.Writer
	buf   bytes.Buffer
}

// writers are used again, since most recordings are much smaller.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 256<<10) }}

func (w *splitter) split() (Summary, error) {
	tmp := "." + w.s.id + ".tmp"
	f, err := w.root.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return Summary{}, err
	}
	w.out = writers.Get().(*bufio.Writer)
	w.out.Reset(f)
	defer writers.Put(w.out)
	err = w.fill()
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil && w.j.fsync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	var sum Summary
	if err == nil {
		sum, err = w.place(tmp)
	}
	if err != nil {
		w.root.Remove(tmp)
	}
	return sum, err
}

// fill writes all records, from the session's first to the seal.
func (w *splitter) fill() error {
	if !w.s.intact() {
		if err := w.salvage(); err != nil {
			return err
		}
	} else if err := w.copy(); err != nil {
		return err
	}
	w.out.Flush() // its error stays for the last one
	w.j.at(midRecording)
	return w.seal()
}

// intact says that the journal holds all of the session's records, so that a
// copy needs to check the chain only and not to read the records.
func (s *Session) intact() bool {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	return s.lost == nil && s.chain.tally.closed
}

// copy takes over records that this process wrote.
func (w *splitter) copy() error {
	from := w.s.source()
	defer from.close()
	var seq int64
	prev := genesis
	for {
		line, err := from.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		seq++
		if !follows(line, seq, prev) {
			return w.s.changed(seq)
		}
		prev = digestLine(line)
		w.write(line)
	}
	if seq != w.s.chain.seq || prev != w.s.chain.prev {
		return w.s.changed(seq)
	}
	w.chain = w.s.chain
	return nil
}

// changed makes the next attempt keep only what is provable.
func (s *Session) changed(seq int64) error {
	err := fmt.Errorf("record %d of session %s is not in the journal as it was written", seq, s.id)
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.lost = err
	return err
}

// follows is a cheap test that a line of our own making is number seq after prev.
func follows(line []byte, seq int64, prev string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(`{"seq":`+strconv.FormatInt(seq, 10)+`,"t":"`))
	if !ok {
		return false
	}
	_, rest, ok = bytes.Cut(rest, []byte{'"'})
	return ok && bytes.HasPrefix(rest, []byte(`,"prev":"`+prev+`",`))
}

// salvage takes over the records up to the first that does not follow, and
// says in the recording that there were others.
func (w *splitter) salvage() error {
	from := w.s.source()
	for {
		line, err := from.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			_, err = w.chain.follow(line)
		}
		if err != nil {
			return w.damaged(err)
		}
		w.write(line)
	}
	if w.chain.seq == 0 {
		return w.damaged(errors.New("it has no records"))
	}
	if lost := w.s.missing(w.chain.seq); lost != nil && !w.chain.tally.closed {
		return w.damaged(lost)
	}
	return w.conclude()
}

// missing says why records that this process wrote are not there.
func (s *Session) missing(found int64) error {
	if found >= s.chain.seq {
		return nil
	}
	return fmt.Errorf("records %d to %d are lost", found+1, s.chain.seq)
}

// damaged ends a recording whose journal was changed or lost in part.
func (w *splitter) damaged(why error) error {
	w.s.keepSegments()
	w.j.opt.Log.Error("the journal of a session is damaged: its segments are kept in journal/damaged", "session", w.s.id, "after", w.chain.seq, "error", why)
	if w.chain.seq == 0 {
		w.j.mu.Lock()
		h := Header{Session: w.s.id, Gateway: w.j.opt.Gateway, Started: w.j.opt.Now().UTC()}
		w.j.mu.Unlock()
		if err := w.add(&Record{Type: TypeOpen, Header: &h}); err != nil {
			return err
		}
	}
	w.end = EndDamaged
	if w.chain.tally.closed {
		return nil // only what came after the end was damaged
	}
	text := fmt.Sprintf("the journal is damaged after record %d: %v; its segments are kept in journal/damaged", w.chain.seq, why)
	if err := w.add(&Record{Type: TypeEvent, Event: "damaged", Data: text}); err != nil {
		return err
	}
	return w.conclude()
}

// conclude adds what an interrupted session has no records of.
func (w *splitter) conclude() error {
	if w.chain.tally.closed {
		return nil
	}
	for _, n := range w.chain.tally.unended() {
		if err := w.add(&Record{Type: TypeResult, N: n, Result: &Result{Outcome: OutcomeUnknown}}); err != nil {
			return err
		}
	}
	sum := w.chain.tally.summary(w.end, w.j.opt.Now())
	return w.add(&Record{Type: TypeClose, Summary: &sum})
}

// seal signs the chain's head.
func (w *splitter) seal() error {
	now := w.j.opt.Now()
	statement := seals(w.chain.tally.header, w.chain.seq, w.chain.prev, now)
	signature, err := w.j.opt.Sign([]byte(statement))
	if err != nil {
		return fmt.Errorf("sign the recording's seal: %w", err)
	}
	if err := plainArmor(string(signature)); err != nil {
		return fmt.Errorf("sign the recording's seal: %w", err)
	}
	return w.addAt(now, &Record{Type: TypeSeal, Statement: statement, Signature: string(signature)})
}

func (w *splitter) add(r *Record) error { return w.addAt(w.j.opt.Now(), r) }

func (w *splitter) addAt(now time.Time, r *Record) error {
	w.buf.Reset()
	if err := w.chain.next(&w.buf, r, now); err != nil {
		return err
	}
	w.write(w.buf.Bytes())
	w.chain.advance(r, w.buf.Bytes())
	return nil
}

// write needs no error: bufio keeps the first for Flush.
func (w *splitter) write(line []byte) {
	w.out.Write(line)
	w.out.WriteByte('\n')
}

// source reads what the journal has of the session.
func (s *Session) source() *journalLines {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	return &journalLines{session: s.id, prefix: []byte(s.id + " "), extents: append([]extent(nil), s.extents...)}
}

// keepSegments has the session's segments kept as evidence.
func (s *Session) keepSegments() {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	for _, e := range s.extents {
		e.seg.damaged = true
	}
}

// place moves the finished file to where its name says, never over another recording.
func (w *splitter) place(tmp string) (Summary, error) {
	name := recordingPath(w.chain.tally.header)
	if _, err := w.root.Lstat(name); err == nil {
		return w.taken(tmp, name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Summary{}, err
	}
	if err := w.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return Summary{}, err
	}
	w.j.at(beforePlace)
	if err := w.root.Rename(tmp, name); err != nil {
		return Summary{}, err
	}
	w.j.at(afterPlace)
	if w.j.fsync {
		if err := w.syncFolders(path.Dir(name)); err != nil {
			return Summary{}, err
		}
	}
	return w.chain.tally.sealedSummary(w.chain), nil
}

// syncFolders makes the new name durable, with the folders that lead to it.
func (w *splitter) syncFolders(dir string) error {
	for ; ; dir = path.Dir(dir) {
		if err := syncFolder(filepath.Join(w.j.opt.Dir, recordingsDir, filepath.FromSlash(dir))); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

// taken handles a crash between writing a recording and forgetting its
// journal: the recording that is there stands, if it is this session's.
func (w *splitter) taken(tmp, name string) (Summary, error) {
	w.root.Remove(tmp)
	there, err := readSealed(name, func() (*os.File, error) { return w.root.Open(name) })
	if err != nil {
		return Summary{}, fmt.Errorf("%s exists and is not a recording: move it away: %w", name, err)
	}
	last := w.s.chain.seq // of the journal's own records
	ok := false
	for r, err := range there.Records() {
		if err != nil {
			return Summary{}, fmt.Errorf("%s exists and is broken: move it away: %w", name, err)
		}
		if r.Seq == last {
			ok = digestLine(r.Line) == w.s.chain.prev
		}
	}
	if !ok {
		return Summary{}, fmt.Errorf("%s exists and is another session's: move it away", name)
	}
	return *there.Summary, nil
}

// sealedSummary is the summary with the head of the finished chain.
func (t *tally) sealedSummary(c chain) Summary {
	s := *t.last
	s.Digest, s.Records = c.prev, c.seq
	return s
}
