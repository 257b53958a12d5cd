package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/policies"
)

// How a command's result reads when nobody recorded one.
const OutcomeUnknown = "unknown"

// How sessions end when nobody said so.
const (
	EndUnknown = "unknown" // the gateway crashed
	EndDrained = "drained" // the gateway was stopped
	EndDamaged = "damaged" // the journal was changed or lost in part; the recording holds what is provable
)

// ErrEnded is returned by everything on a session after its Close.
var ErrEnded = errors.New("the session's recording has ended")

// maxOutput is how much of an output goes into one record, in bytes.
const maxOutput = 256 << 10

// Session writes the recording of one session. Its methods may be called from any goroutine.
type Session struct {
	j  *Journal
	id string

	mu       sync.Mutex // taken before the journal's
	chain    chain
	commands int64
	outputs  map[int64]*output // of commands that run
	cap      int64             // of each command's output, in bytes
	ended    bool
	left     bool // by an earlier process
	buf      bytes.Buffer

	// Owned by the journal's mutex.
	extents []extent
	end     int64 // the journal's length after this session's last record
	lost    error // why records of it may be gone; it takes no more then
}

// output counts what a command has put out.
type output struct {
	used int64 // bytes recorded
	left int64 // bytes left out and not yet reported by a truncated record
	full bool
}

// Begin opens the recording of a session. h.Session is "s-" and 16 hex digits
// and new; h.Gateway is set by the journal.
func (j *Journal) Begin(h Header) (*Session, error) {
	if !sessionID.MatchString(h.Session) || isDenialLog(h.Session) {
		return nil, fmt.Errorf("record: %q is not a session id: want \"s-\" and 16 hex digits", h.Session)
	}
	return j.begin(h)
}

func (j *Journal) begin(h Header) (*Session, error) {
	h.Gateway = j.opt.Gateway
	if h.Started.IsZero() {
		h.Started = j.opt.Now()
	}
	h.Started = h.Started.UTC()
	s := newSession(j, h.Session)
	if n, own := j.opt.OutputCaps[h.Protocol]; own {
		s.cap = n
	}
	if err := j.enter(s, h); err != nil {
		return nil, fmt.Errorf("record session %s: %w", h.Session, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.append(&Record{Type: TypeOpen, Header: &h}); err != nil {
		j.release(s)
		return nil, err
	}
	return s, nil
}

func newSession(j *Journal, id string) *Session {
	return &Session{j: j, id: id, chain: newChain(), outputs: map[int64]*output{}, cap: j.opt.OutputCap}
}

// enter reserves the session's id.
func (j *Journal) enter(s *Session, h Header) error {
	_, err := os.Lstat(filepath.Join(j.opt.Dir, recordingsDir, filepath.FromSlash(recordingPath(h))))
	if !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errors.New("there is a recording of that id already"), err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sessions[s.id] != nil {
		return errors.New("a session of that id is open already")
	}
	if j.closing {
		return ErrClosed
	}
	j.sessions[s.id] = s
	return nil
}

// append writes the session's next records, at once: all of them or none. Callers hold s.mu.
func (s *Session) append(records ...*Record) error {
	if s.ended {
		return ErrEnded
	}
	if len(records) == 0 {
		return nil
	}
	s.buf.Reset()
	next := chain{seq: s.chain.seq, prev: s.chain.prev}
	for _, r := range records {
		s.buf.WriteString(s.id)
		s.buf.WriteByte(' ')
		start := s.buf.Len()
		if err := next.next(&s.buf, r, s.j.opt.Now()); err != nil {
			return fmt.Errorf("record session %s: %w", s.id, err)
		}
		next.seq, next.prev = r.Seq, digestLine(s.buf.Bytes()[start:])
		s.buf.WriteByte('\n')
	}
	if err := s.j.write(s, s.buf.Bytes()); err != nil {
		return fmt.Errorf("record session %s: %w", s.id, err)
	}
	s.chain.seq, s.chain.prev = next.seq, next.prev
	for _, r := range records {
		s.chain.tally.add(r)
	}
	if s.buf.Cap() > 1<<20 {
		s.buf = bytes.Buffer{} // one long statement must not stay in memory for the session's life
	}
	return nil
}

// wrote notes where the session's newest line lies. Callers hold the journal's mutex.
func (s *Session) wrote(g *segment, n int64) {
	g.open[s] = true
	if last := len(s.extents) - 1; last >= 0 && s.extents[last].seg == g && s.extents[last].off+s.extents[last].n == g.size {
		s.extents[last].n += n
		return
	}
	s.extents = append(s.extents, extent{seg: g, off: g.size, n: n})
}

// Command records a command and its decision and returns its number. It is
// durable only after Barrier. A command that was not allowed takes no output and no result.
func (s *Session) Command(c Command) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.commands + 1
	if err := s.append(&Record{Type: TypeCommand, N: n, Command: &c}); err != nil {
		return 0, err
	}
	s.commands = n
	if c.Verdict == policies.Allow {
		s.outputs[n] = &output{}
	}
	return n, nil
}

// Barrier waits until everything recorded of the session so far is durable.
// When it returns an error nothing may be forwarded.
func (s *Session) Barrier(ctx context.Context) error {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended {
		return ErrEnded
	}
	s.j.mu.Lock()
	target := s.end
	s.j.mu.Unlock()
	if err := s.j.commit(ctx, s, target); err != nil {
		return fmt.Errorf("record session %s: %w", s.id, err)
	}
	return nil
}

// Output records what is about to be released to the client for command n.
// Beyond the cap it is left out and only counted: kept is how many bytes of data
// are in the recording, and room says whether more will be.
func (s *Session) Output(n int64, stream string, data []byte) (kept int, room bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.outputs[n]
	if o == nil {
		return 0, false, fmt.Errorf("record session %s: output of command %d, which does not run", s.id, n)
	}
	records, next := s.output(n, *o, stream, data)
	if err := s.append(records...); err != nil {
		return 0, false, err
	}
	kept = int(next.used - o.used)
	*o = next
	return kept, !o.full && o.used < s.cap, nil
}

// KeepsOutput reports whether any output is recorded.
func (s *Session) KeepsOutput() bool { return s.cap > 0 }

// output is how data is recorded: in records of bounded length, of which the
// first that does not fit says so in the recording at once, so that also one
// that a crash ends shows that output is missing.
func (s *Session) output(n int64, o output, stream string, data []byte) ([]*Record, output) {
	var records []*Record
	for len(data) > 0 && !o.full {
		part := data[:fit(data, min(s.cap-o.used, maxOutput))]
		if len(part) == 0 {
			break
		}
		records = append(records, outputRecord(n, stream, part))
		o.used += int64(len(part))
		data = data[len(part):]
	}
	if left := int64(len(data)); left > 0 && o.full {
		o.left += left
	} else if left > 0 {
		records = append(records, &Record{Type: TypeTruncated, N: n, Left: left})
		o.full = true
	}
	return records, o
}

// LeftOut counts bytes of command n's output that the engine did not even
// decode because there was no room for them.
func (s *Session) LeftOut(n, left int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.outputs[n]
	switch {
	case o == nil || left <= 0:
		return nil
	case o.full:
		o.left += left
		return nil
	}
	if err := s.append(&Record{Type: TypeTruncated, N: n, Left: left}); err != nil {
		return err
	}
	o.full = true
	return nil
}

func outputRecord(n int64, stream string, data []byte) *Record {
	r := &Record{Type: TypeOutput, N: n, Stream: stream}
	if utf8.Valid(data) {
		r.text = data
	} else {
		r.Base64 = bytes.Clone(data)
	}
	return r
}

// fit is how many of data's first limit bytes go into a record: all, less a
// character that would be cut in two.
func fit(data []byte, limit int64) int {
	if limit <= 0 {
		return 0
	}
	if int64(len(data)) <= limit {
		return len(data)
	}
	n := int(limit)
	for back := 0; back < utf8.UTFMax-1 && back < n; back++ {
		if utf8.RuneStart(data[n-back]) {
			return n - back
		}
	}
	return n
}

// Result records how command n ended, exactly once.
func (s *Session) Result(n int64, r Result) error { return s.Finish(n, "", nil, r) }

// Finish is Output and Result in one: most commands have one answer, which costs
// one write so.
func (s *Session) Finish(n int64, stream string, data []byte, r Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result(n, stream, data, r)
}

func (s *Session) result(n int64, stream string, data []byte, r Result) error {
	o := s.outputs[n]
	if o == nil {
		return fmt.Errorf("record session %s: result of command %d, which does not run", s.id, n)
	}
	records, last := s.output(n, *o, stream, data)
	if last.left > 0 {
		records = append(records, &Record{Type: TypeTruncated, N: n, Left: last.left})
	}
	if err := s.append(append(records, &Record{Type: TypeResult, N: n, Result: &r})...); err != nil {
		return err
	}
	delete(s.outputs, n)
	return nil
}

// Event records anything else: kind is one word, text is for people and carries no literal.
func (s *Session) Event(kind, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(&Record{Type: TypeEvent, Event: kind, Data: text})
}

// Close ends the session for the reason end and writes its recording.
// Commands without a result get one of outcome "unknown". The summary is right
// also beside an error, but then without Digest: the recording will be
// written when the disk allows it and Options.Recovered gets the full summary.
func (s *Session) Close(end string) (Summary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close(end)
}

func (s *Session) close(end string) (Summary, error) {
	if s.ended {
		return Summary{}, ErrEnded
	}
	err := s.finish(end)
	s.ended = true
	if err != nil {
		// The journal does not take the end; the recording gets it directly.
		s.j.opt.Log.Warn("the end of a session cannot be journalled", "session", s.id, "error", err)
	}
	sum, err := s.j.settle(s, end)
	if err == nil {
		return sum, nil
	}
	s.j.postpone(s, end, err)
	return s.chain.tally.summary(end, s.j.opt.Now()), fmt.Errorf("record session %s: the recording cannot be written: %w", s.id, err)
}

// finish journals what a recording has before its seal.
func (s *Session) finish(end string) error {
	for _, n := range s.chain.tally.unended() {
		if err := s.result(n, "", nil, Result{Outcome: OutcomeUnknown}); err != nil {
			return err
		}
	}
	sum := s.chain.tally.summary(end, s.j.opt.Now())
	if err := s.append(&Record{Type: TypeClose, Summary: &sum}); err != nil {
		return err
	}
	s.j.mu.Lock()
	target := s.end
	s.j.mu.Unlock()
	return s.j.commit(context.Background(), s, target)
}

func (s *Session) drain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	sum, err := s.close(EndDrained)
	if err == nil && s.j.opt.Recovered != nil && !isDenialLog(s.id) {
		s.j.opt.Recovered(sum)
	}
	return err
}

// postpone leaves a recording for the keeper to write. When no recording can
// be written at all, neither may the journal go on.
func (j *Journal) postpone(s *Session, end string, err error) {
	perr := j.probe()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending[s] = end
	if perr != nil {
		j.fail(fmt.Errorf("recordings: %w", err), true)
	}
	j.wake()
}

// recordingPath is where a session's recording lies, below the recordings folder.
func recordingPath(h Header) string {
	return h.Started.UTC().Format("2006/01/02/") + h.Session + ".jsonl"
}

// dayOf is the folder of sessions that started at t.
func dayOf(t time.Time) string { return t.UTC().Format("2006/01/02") }
