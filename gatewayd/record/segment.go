package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// file is what a segment needs of an *os.File; tests put failing disks behind it.
type file interface {
	io.Writer
	io.ReaderAt
	Sync() error
	Close() error
	Stat() (fs.FileInfo, error)
}

// segment is one file of the journal. The Journal's mutex owns its fields;
// what has been written of it never changes, so it is read without the mutex.
type segment struct {
	path    string
	number  int
	f       file
	info    fs.FileInfo
	size    int64             // bytes of whole lines
	open    map[*Session]bool // sessions that still need its lines
	damaged bool              // holds lines that no recording took over: kept as evidence
}

// extent is a run of whole lines of one session in one segment.
type extent struct {
	seg *segment
	off int64
	n   int64
}

var segmentName = regexp.MustCompile(`^[0-9]{8}\.log$`)

func openAppend(path string) (file, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_RDWR, 0o600)
}

// segmentPaths lists the journal's segments, oldest first.
func segmentPaths(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, journalDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if segmentName.MatchString(e.Name()) {
			paths = append(paths, filepath.Join(dir, journalDir, e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

func segmentNumber(path string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".log"))
	return n
}

// cutPrefix splits a journal line into the session it belongs to and the record.
func cutPrefix(line []byte) (session string, record []byte, ok bool) {
	id, record, ok := bytes.Cut(line, []byte{' '})
	if !ok || !sessionID.Match(id) {
		return "", nil, false
	}
	return string(id), record, true
}

// lines reads LF-ended lines of bounded length.
type lines struct {
	r    *bufio.Reader
	buf  []byte
	read int64 // bytes consumed, line feeds included
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 64<<10)} }

var errTorn = errors.New("the file ends in the middle of a record")

// next returns the next line without its line feed, valid until the next
// call. It returns io.EOF after the last one and errTorn when that has no line feed.
func (l *lines) next() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.read += int64(len(part))
		l.buf = append(l.buf, part...)
		switch {
		case err == nil:
			return l.buf[:len(l.buf)-1], nil
		case err == io.EOF && len(l.buf) == 0:
			return nil, io.EOF
		case err == io.EOF:
			return nil, errTorn
		case err != bufio.ErrBufferFull:
			return nil, err
		case len(l.buf) > maxLine+64:
			return nil, errTooLong
		}
	}
}

// journalLines reads one session's records out of the extents where they lie.
type journalLines struct {
	session string
	prefix  []byte // of its lines
	extents []extent
	lines   *lines // nil before the first extent
}

// open goes on with another extent, in the buffer of the one before: a busy gateway cuts a session's records into very many.
func (j *journalLines) open(r io.Reader) {
	if j.lines == nil {
		j.lines = spare.Get().(*lines)
	}
	j.lines.r.Reset(r)
	j.lines.read = 0
}

// close gives back the buffer; no line is valid after it.
func (j *journalLines) close() {
	if j.lines != nil && cap(j.lines.buf) <= maxOutput {
		spare.Put(j.lines)
	}
	j.lines = nil
}

// spare are readers of sessions that have been read.
var spare = sync.Pool{New: func() any { return newLines(nil) }}

func (j *journalLines) next() ([]byte, error) {
	for {
		line, err := []byte(nil), io.EOF
		if j.lines != nil {
			line, err = j.lines.next()
		}
		if err == io.EOF {
			if len(j.extents) == 0 {
				return nil, io.EOF
			}
			e := j.extents[0]
			j.extents = j.extents[1:]
			j.open(io.NewSectionReader(e.seg.f, e.off, e.n))
			continue
		}
		if err != nil {
			return nil, err
		}
		record, ok := bytes.CutPrefix(line, j.prefix)
		if !ok {
			return nil, fmt.Errorf("the journal holds something else where a record of %s was written", j.session)
		}
		return record, nil
	}
}
