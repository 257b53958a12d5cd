package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ErrNoSession says that a session has no recording and no records in the journal.
var ErrNoSession = errors.New("no recording of that session")

// Recording is one session as it was recorded. Its parts are as they stand in
// the file; Records checks the chain, Verify the seal too.
type Recording struct {
	Session string   `json:"session"`
	Path    string   `json:"path,omitempty"` // below the recordings folder; "" while Open
	Open    bool     `json:"open"`           // not ended: its records are still in the journal
	Header  Header   `json:"header"`
	Summary *Summary `json:"summary,omitempty"` // nil while Open

	source func() (lineSource, io.Closer, error)
}

// Records yields the records in order. It ends with a *Problem at the first
// one that is not as it was written.
func (r *Recording) Records() iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		from, c, err := r.source()
		if err != nil {
			yield(nil, err)
			return
		}
		defer c.Close()
		for rec, err := range walk(from, r.Open) {
			if p, ok := err.(*Problem); ok {
				p.Session, p.Path = r.Session, r.Path
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// Find finds a session's recording, or its open records in the journal. The error wraps ErrNoSession when there is neither.
func Find(dir, session string) (*Recording, error) {
	if !sessionID.MatchString(session) {
		return nil, fmt.Errorf("%q is not a session id: want \"s-\" and 16 hex digits, as `sallyport sessions` lists them", session)
	}
	for range 2 { // a session may end between the two looks
		r, err := readRecorded(dir, session)
		if err == nil || !errors.Is(err, ErrNoSession) {
			return r, err
		}
		open, err := openSessions(dir)
		if err != nil {
			return nil, err
		}
		if r := open[session]; r != nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s: %w in %s", session, ErrNoSession, dir)
}

func readRecorded(dir, session string) (*Recording, error) {
	for p, err := range recorded(dir, noTime) {
		if err != nil {
			return nil, err
		}
		if path.Base(p) == session+".jsonl" {
			return readPath(dir, p)
		}
	}
	return nil, ErrNoSession
}

func sessionOf(p string) string { return strings.TrimSuffix(path.Base(p), ".jsonl") }

func readPath(dir, p string) (*Recording, error) {
	if !recordedName.MatchString(p) {
		return nil, &Problem{Session: sessionOf(p), Path: p, Reason: "this is not a recording's name: move the file away"}
	}
	return readSealed(p, opener(dir, p))
}

// opener opens a recording by its path, which must not lead out of the folder.
func opener(dir, p string) func() (*os.File, error) {
	return func() (*os.File, error) {
		root, err := os.OpenRoot(filepath.Join(dir, recordingsDir))
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return root.Open(p)
	}
}

// sealedAt is a recording of which nothing has been read yet.
func sealedAt(dir, p string) *Recording { return unread(p, opener(dir, p)) }

func unread(p string, open func() (*os.File, error)) *Recording {
	return &Recording{Session: sessionOf(p), Path: p, source: func() (lineSource, io.Closer, error) {
		f, err := open()
		if err != nil {
			return nil, nil, err
		}
		return newLines(f), f, nil
	}}
}

// readSealed reads the two ends of a recording.
func readSealed(p string, open func() (*os.File, error)) (*Recording, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := unread(p, open)
	first, err := newLines(f).next()
	if err != nil {
		return nil, &Problem{Session: r.Session, Path: p, Record: 1, Reason: err.Error()}
	}
	head, err := decode(first)
	if err != nil || head.Type != TypeOpen {
		return nil, &Problem{Session: r.Session, Path: p, Record: 1, Reason: "it does not say whose session this is"}
	}
	r.Header = *head.Header
	r.Summary, err = readEnd(f)
	if err != nil {
		return nil, &Problem{Session: r.Session, Path: p, Reason: "its end is not as it was written: " + err.Error()}
	}
	return r, nil
}

// readEnd reads the close record and the seal.
func readEnd(f *os.File) (*Summary, error) {
	last, err := lastLines(f, 2)
	if err != nil {
		return nil, err
	}
	end, err := decode(last[0])
	if err != nil {
		return nil, err
	}
	seal, err := decode(last[1])
	if err != nil {
		return nil, err
	}
	if end.Type != TypeClose || seal.Type != TypeSeal {
		return nil, errors.New("the seal is missing")
	}
	s := *end.Summary
	s.Digest, s.Records = digestLine(last[1]), seal.Seq
	return &s, nil
}

// lastLines returns a file's last n lines, without line feeds.
func lastLines(f *os.File, n int) ([][]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	for size := int64(16 << 10); ; size *= 4 {
		whole := size >= info.Size()
		size = min(size, info.Size())
		tail := make([]byte, size)
		if _, err := f.ReadAt(tail, info.Size()-size); err != nil && err != io.EOF {
			return nil, err
		}
		body, ended := bytes.CutSuffix(tail, []byte{'\n'})
		if !ended {
			return nil, errTorn
		}
		got := bytes.Split(body, []byte{'\n'})
		if len(got) > n || whole && len(got) == n {
			return got[len(got)-n:], nil
		}
		if whole || size > 2*maxLine {
			return nil, errors.New("too few records")
		}
	}
}

// noTime is before all recordings.
var noTime time.Time

var recordedName = regexp.MustCompile(`^[0-9]{4}/[0-9]{2}/[0-9]{2}/(s|denied)-[0-9a-f]{16}\.jsonl$`)

// recorded yields the paths of recordings, newest day first, leaving out days
// before since. Files that are not recordings are among them.
func recorded(dir string, since time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		paths, err := recordedPaths(dir, since)
		if err != nil {
			yield("", err)
			return
		}
		for _, p := range paths {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func recordedPaths(dir string, since time.Time) ([]string, error) {
	root, err := os.OpenRoot(filepath.Join(dir, recordingsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no recordings: it is not a gateway's recordings folder", dir)
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var paths []string
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // moved on meanwhile
		case err != nil:
			return err
		case d.IsDir() && len(p) == len("2006/01/02") && !since.IsZero() && p < dayOf(since):
			return fs.SkipDir
		case !d.IsDir() && !strings.HasPrefix(d.Name(), "."):
			paths = append(paths, p)
		}
		return nil
	})
	slices.Sort(paths)
	slices.Reverse(paths)
	return paths, err
}

// openSessions are the sessions that have records in the journal, by id.
func openSessions(dir string) (map[string]*Recording, error) {
	segments, err := segmentPaths(dir)
	if err != nil {
		return nil, err
	}
	open := map[string]*Recording{}
	for _, p := range segments {
		if err := openIn(dir, p, open); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return open, nil
}

// openIn adds the sessions that begin in one segment.
func openIn(dir, segment string, open map[string]*Recording) error {
	f, err := os.Open(segment)
	if err != nil {
		return err
	}
	defer f.Close()
	in := newLines(f)
	for {
		line, err := in.next()
		if err == io.EOF || err == errTorn || err == errTooLong {
			return nil
		}
		if err != nil {
			return err
		}
		id, record, ok := cutPrefix(line)
		if !ok || open[id] != nil {
			continue
		}
		r, err := decode(record)
		if err != nil || r.Type != TypeOpen {
			continue
		}
		open[id] = &Recording{Session: id, Open: true, Header: *r.Header, source: func() (lineSource, io.Closer, error) {
			return openJournal(dir, id)
		}}
	}
}

// openLines filters one session's records out of all segments.
type openLines struct {
	session string
	files   []*os.File
	lines   *lines
}

func openJournal(dir, session string) (lineSource, io.Closer, error) {
	paths, err := segmentPaths(dir)
	if err != nil {
		return nil, nil, err
	}
	o := &openLines{session: session}
	for _, p := range paths {
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			o.Close()
			return nil, nil, err
		}
		o.files = append(o.files, f)
	}
	return o, o, nil
}

func (o *openLines) next() ([]byte, error) {
	for len(o.files) > 0 {
		if o.lines == nil {
			o.lines = newLines(o.files[0])
		}
		line, err := o.lines.next()
		if err == io.EOF || err == errTorn {
			o.files[0].Close()
			o.files, o.lines = o.files[1:], nil
			continue
		}
		if err != nil {
			return nil, err
		}
		if id, record, ok := cutPrefix(line); ok && id == o.session {
			return record, nil
		}
	}
	return nil, io.EOF
}

func (o *openLines) Close() error {
	for _, f := range o.files {
		f.Close()
	}
	o.files = nil
	return nil
}

// List returns all sessions and denial logs, newest first, open ones
// included. Recordings that cannot be read are left out and named in broken.
func List(dir string) (all []*Recording, broken []error, err error) { return list(dir, noTime) }

func list(dir string, since time.Time) (all []*Recording, broken []error, err error) {
	open, err := openSessions(dir)
	if err != nil {
		return nil, nil, err
	}
	for p, err := range recorded(dir, since) {
		if err != nil {
			return nil, nil, err
		}
		delete(open, sessionOf(p))
		r, err := readPath(dir, p)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		all = append(all, r)
	}
	for _, r := range open {
		if since.IsZero() || dayOf(r.Header.Started) >= dayOf(since) {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b *Recording) int {
		if c := b.Header.Started.Compare(a.Header.Started); c != 0 {
			return c
		}
		return strings.Compare(a.Session, b.Session)
	})
	return all, broken, nil
}

// Summaries yields the summaries of all ended sessions that began on since's
// day (UTC) or later, and of the logins refused meanwhile: what an audit trail
// must hold. It reads them from the recordings, so that a trail that lost some
// can be completed. A recording that cannot be read yields its error and hinders no other.
func Summaries(dir string, since time.Time) iter.Seq2[Summary, error] {
	return func(yield func(Summary, error) bool) {
		all, broken, err := list(dir, since)
		if err != nil {
			yield(Summary{}, err)
			return
		}
		for _, err := range broken {
			if !yield(Summary{}, err) {
				return
			}
		}
		for _, r := range all {
			if !r.summaries(yield) {
				return
			}
		}
	}
}

func (r *Recording) summaries(yield func(Summary, error) bool) bool {
	if !isDenialLog(r.Session) {
		return r.Open || yield(*r.Summary, nil)
	}
	for rec, err := range r.Records() {
		if err != nil {
			return yield(Summary{}, err)
		}
		if rec.Type == TypeDenied && !yield(deniedSummary(rec), nil) {
			return false
		}
	}
	return true
}

// deniedSummary is the summary of a refused login with its place in the denial log.
func deniedSummary(r *Record) Summary {
	s := *r.Summary
	s.Digest, s.Records = digestLine(r.Line), r.Seq
	return s
}
