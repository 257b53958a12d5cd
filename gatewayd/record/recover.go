package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// scan reads the segments that an earlier process left and returns the
// sessions in them. Nothing else uses the journal yet.
func (j *Journal) scan() (map[string]*Session, error) {
	paths, err := segmentPaths(j.opt.Dir)
	if err != nil {
		return nil, err
	}
	kept, err := filepath.Glob(filepath.Join(j.opt.Dir, journalDir, damagedDir, "*.log"))
	if err != nil {
		return nil, err
	}
	for _, p := range append(kept, paths...) {
		j.segments = max(j.segments, segmentNumber(p))
	}
	left := map[string]*Session{}
	for _, p := range paths {
		if err := j.scanSegment(p, left); err != nil {
			return nil, fmt.Errorf("read %s: %w", p, err)
		}
	}
	return left, nil
}

func (j *Journal) scanSegment(path string, left map[string]*Session) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	g := &segment{path: path, number: segmentNumber(path), f: readOnly{f}, open: map[*Session]bool{}}
	in := newLines(f)
	for {
		line, err := in.next()
		if err == io.EOF || err == errTorn {
			break // a torn last line was never acknowledged
		}
		if err != nil && err != errTooLong {
			f.Close()
			return err
		}
		if id, record, ok := cutPrefix(line); ok && err == nil {
			j.scanLine(g, left, id, record)
		} else {
			g.damaged = true
		}
		g.size = in.read
		if err == errTooLong {
			break
		}
	}
	if len(g.open) == 0 {
		j.drop(g)
	}
	return nil
}

// scanLine notes where a session's record lies. What it says is checked when the session is settled.
func (j *Journal) scanLine(g *segment, left map[string]*Session, id string, record []byte) {
	s := left[id]
	if s == nil {
		s = newSession(j, id)
		s.ended, s.left = true, true
		left[id] = s
		j.sessions[id] = s
	}
	s.wrote(g, int64(len(id)+1+len(record)+1))
	if s.lost == nil {
		if _, err := s.chain.follow(record); err != nil {
			s.lost = err // the chain stays at the last record that followed
		}
	}
}

// settleLeft is settle for a session of an earlier process. That may have
// sealed its recording already and been killed before all segments were
// removed, each of which goes on its own: what they still have of it, which
// need not be its start, is then forgotten. Callers hold s.mu.
func (j *Journal) settleLeft(s *Session, end string) (Summary, error) {
	there, err := j.sealedOf(s)
	if err != nil || there == nil {
		if err != nil {
			return Summary{}, err
		}
		return j.settle(s, end)
	}
	if err := s.repeats(there); err != nil {
		if s.chain.seq > 0 {
			return j.settle(s, end)
		}
		s.keepSegments()
		j.opt.Log.Error("the journal has damaged records of a session that is sealed: its segments are kept in journal/damaged", "session", s.id, "error", err)
	}
	j.release(s)
	return *there.Summary, nil
}

// sealedOf is the session's recording, nil when there is none.
func (j *Journal) sealedOf(s *Session) (_ *Recording, err error) {
	p := recordingPath(s.chain.tally.header)
	if s.chain.seq == 0 { // the journal does not say on which day it began
		if p, err = j.placeOf(s.id); p == "" || err != nil {
			return nil, err
		}
	}
	r, err := readPath(j.opt.Dir, p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return r, err
}

// placeOf is where a session's recording lies, "" when there is none.
func (j *Journal) placeOf(session string) (string, error) {
	if j.places == nil {
		paths, err := recordedPaths(j.opt.Dir, noTime)
		if err != nil {
			return "", err
		}
		j.places = make(map[string]string, len(paths))
		for _, p := range paths {
			j.places[sessionOf(p)] = p
		}
	}
	return j.places[session], nil
}

// repeats is nil when the recording has every record that the journal has.
func (s *Session) repeats(there *Recording) error {
	known := map[string]bool{}
	for r, err := range there.Records() {
		if err != nil {
			return err
		}
		known[digestLine(r.Line)] = true
	}
	from := s.source()
	for {
		line, err := from.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !known[digestLine(line)] {
			return errors.New("its recording does not have them")
		}
	}
}

// readOnly is a segment of an earlier process.
type readOnly struct{ *os.File }

func (readOnly) Write([]byte) (int, error) { return 0, os.ErrPermission }
func (readOnly) Sync() error               { return nil }

// recover turns sessions of an earlier process into recordings. One that
// cannot be turned into one now stays in the journal and hinders nobody.
func (j *Journal) recover(left map[string]*Session) {
	defer func() { j.places = nil }()
	for _, s := range left {
		s.mu.Lock()
		sum, err := j.settleLeft(s, EndUnknown)
		s.mu.Unlock()
		if err != nil {
			j.opt.Log.Warn("a session that a crash left open cannot be turned into a recording yet", "session", s.id, "error", err)
			j.mu.Lock()
			j.pending[s] = EndUnknown
			j.wake()
			j.mu.Unlock()
			continue
		}
		if j.opt.Recovered != nil && !isDenialLog(s.id) {
			j.opt.Recovered(sum)
		}
	}
}
