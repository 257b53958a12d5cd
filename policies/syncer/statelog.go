package syncer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// The state is a file with all of it, and a log of what changed since, so that a
// round over many documents writes what it changed. The log is named after the
// digest of the file that it continues: with a new file it is void, whatever a crash leaves of it.
//
// Each line of the log is the digest of the rest of the line, a space, and a change.
// A last line that is not whole was never acted on; any other bad line is damage.

// change is what one save changed.
type change struct {
	// State is all but Documents and Seen.
	State     *state               `json:"state"`
	Documents map[string]*memory   `json:"documents,omitempty"` // null for one that is gone
	Seen      map[string]time.Time `json:"seen,omitempty"`
}

// onDisk is what was saved last.
type onDisk struct {
	log       string // path of the log, "" when all has to be written
	size      int64  // of the file with all
	logged    int64  // bytes of the log
	documents memories
	seen      map[string]time.Time // a copy: the state's own is added to between saves
	known     map[string]time.Time // what it is a copy of
}

const minLog = 1 << 20 // bytes up to which a log grows however small the state is

// save makes the state durable.
func (s *state) save(dir string) error {
	if s.disk == nil {
		s.disk = &onDisk{}
	}
	var err error
	if c, ok := s.disk.changed(s); !ok {
		err = s.rewrite(dir)
	} else if err = s.disk.append(c); err == nil {
		s.disk.documents, s.disk.known = s.Documents, s.Seen
		maps.Copy(s.disk.seen, c.Seen)
	}
	if err != nil {
		s.disk.log = "" // there may be half a line
		return fmt.Errorf("write sync state: %w", err)
	}
	return nil
}

// changed is what to add to the log, not ok when all is to be written instead.
func (d *onDisk) changed(s *state) (c change, ok bool) {
	if d.log == "" || d.logged > max(minLog, d.size/2) {
		return c, false
	}
	head := *s
	head.Documents, head.Seen = memories{}, nil
	c = change{State: &head, Documents: map[string]*memory{}, Seen: map[string]time.Time{}}
	s.Documents.since(d.documents, func(doc string, to *memory) { c.Documents[doc] = to })
	if oneMap(d.known, s.Seen) && len(d.seen) == len(s.Seen) { // it is only added to
		return c, true
	}
	found := 0
	for sum, at := range s.Seen {
		before, is := d.seen[sum]
		if is {
			found++
		}
		if !is || !before.Equal(at) {
			c.Seen[sum] = at
		}
	}
	return c, found == len(d.seen) // otherwise a round that failed was saved
}

func (m memory) equal(o memory) bool {
	return m.Closed == o.Closed && m.Sequence == o.Sequence && m.SHA256 == o.SHA256 && m.Commit == o.Commit && m.At.Equal(o.At) &&
		m.Retired == o.Retired && m.Accepted == o.Accepted && m.Risk == o.Risk && m.Owner == o.Owner && maps.Equal(m.Replaced, o.Replaced)
}

func (d *onDisk) append(c change) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	line := fmt.Appendf(nil, "%s %s\n", digest(b), b)
	d.logged += int64(len(line))
	return appendDurably(d.log, line)
}

// rewrite writes all.
func (s *state) rewrite(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if err := writeDurably(filepath.Join(dir, stateFile), b); err != nil {
		return err
	}
	void, err := filepath.Glob(logOf(dir, "*"))
	for _, name := range void {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return err
	}
	*s.disk = onDisk{log: logOf(dir, digest(b)), size: int64(len(b)), documents: s.Documents, seen: maps.Clone(s.Seen), known: s.Seen}
	return nil
}

func logOf(dir, base string) string { return filepath.Join(dir, "state-"+base+".log") }

// replay brings the state of the file with that digest up to what was saved last.
func (s *state) replay(dir, base string) (*state, error) {
	name := logOf(dir, base)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read sync state: %w", err)
	}
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		sum, text, _ := bytes.Cut(line, []byte(" "))
		if whole && string(sum) != digest(text) || !whole && len(rest) > 0 {
			return nil, fmt.Errorf("sync state %s is damaged: move it and %s away to rebuild the state from the history", name, stateFile)
		}
		if !whole {
			break
		}
		b = rest
		var c change
		if err := decodeState(text, &c); err != nil || c.State == nil {
			return nil, fmt.Errorf("sync state %s is damaged or of another version: move it and %s away to rebuild the state from the history", name, stateFile)
		}
		c.State.Documents, c.State.Seen = s.Documents, s.Seen
		s = c.State
		for path, m := range c.Documents {
			if m == nil {
				s.Documents.remove(path)
			} else {
				s.Documents.set(path, *m)
			}
		}
		maps.Copy(s.Seen, c.Seen)
	}
	return s, nil
}

// appendDurably adds to a file, and makes it where there is none.
func appendDurably(file string, b []byte) error {
	_, statErr := os.Stat(file)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil || statErr == nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
