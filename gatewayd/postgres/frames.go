package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	headerSize = 5
	// maxFrame is the longest message body, in bytes, that either side may send: what PostgreSQL itself takes.
	maxFrame = 1<<30 - 1
	// readSize is how much is read at once, and by how much a buffer may run ahead of what arrived.
	readSize = 64 << 10
	// keepSize is the largest buffer that is kept between messages.
	keepSize = 256 << 10
)

// errFrame is a length that no message can have. The stream cannot be followed behind it.
var errFrame = errors.New("a message has an impossible length")

// frameReader walks a stream of messages: a type byte, a length, a body. It
// never allocates ahead of what has arrived, whatever a header claims. One
// goroutine uses it at a time.
type frameReader struct {
	conn  net.Conn
	limit int // longest body
	buf   []byte
	start int // first unread byte
	end   int // behind the last byte that arrived
}

func newFrameReader(conn net.Conn, limit int) *frameReader {
	return &frameReader{conn: conn, limit: limit, buf: make([]byte, 4<<10)}
}

// frame is one whole message. Its bytes are valid until the next read.
type frame struct {
	kind byte
	raw  []byte // header and body
}

func (f frame) body() []byte { return f.raw[headerSize:] }

// header returns the type and body length of the next message, reading what is missing of it.
func (r *frameReader) header() (kind byte, length int, err error) {
	if err := r.need(headerSize); err != nil {
		return 0, 0, err
	}
	claimed := binary.BigEndian.Uint32(r.buf[r.start+1:])
	if claimed < 4 || int64(claimed)-4 > int64(r.limit) {
		return 0, 0, fmt.Errorf("%w: type %q, length %d", errFrame, r.buf[r.start], claimed)
	}
	return r.buf[r.start], int(claimed) - 4, nil
}

// next returns the next message as a whole.
func (r *frameReader) next() (frame, error) {
	kind, length, err := r.header()
	if err != nil {
		return frame{}, err
	}
	if err := r.need(headerSize + length); err != nil {
		return frame{}, err
	}
	raw := r.buf[r.start : r.start+headerSize+length]
	r.start += len(raw)
	return frame{kind, raw}, nil
}

// ready reports whether the next message is complete without reading.
func (r *frameReader) ready() bool {
	if r.end-r.start < headerSize {
		return false
	}
	claimed := int64(binary.BigEndian.Uint32(r.buf[r.start+1:]))
	return claimed < 4 || claimed-4 > int64(r.limit) || int64(r.end-r.start) >= claimed+1
}

// take returns up to n bytes of what has arrived, reading only when nothing has.
func (r *frameReader) take(n int) ([]byte, error) {
	if err := r.need(1); err != nil {
		return nil, err
	}
	part := r.buf[r.start:min(r.end, r.start+n)]
	r.start += len(part)
	return part, nil
}

// need reads until n unread bytes are there.
func (r *frameReader) need(n int) error {
	for r.end-r.start < n {
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) && r.end > r.start {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// fill reads once, whatever has arrived. Frames returned before are void.
func (r *frameReader) fill() error {
	switch {
	case r.start == r.end:
		r.start, r.end = 0, 0
		if len(r.buf) > keepSize {
			r.buf = make([]byte, readSize)
		}
	case r.end == len(r.buf) && r.start >= len(r.buf)/2:
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	return r.fillBehind()
}

// fillBehind reads once and leaves frames returned before intact.
func (r *frameReader) fillBehind() error {
	if r.end == len(r.buf) {
		unread := r.end - r.start
		bigger := make([]byte, max(readSize, 2*unread))
		copy(bigger, r.buf[r.start:r.end])
		r.buf, r.start, r.end = bigger, 0, unread
	}
	n, err := r.conn.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// buffered is how many unread bytes have arrived.
func (r *frameReader) buffered() int { return r.end - r.start }

// interrupt makes a blocked read of the connection return; resume undoes it.
func interrupt(conn net.Conn) { conn.SetReadDeadline(time.Unix(1, 0)) }
func resume(conn net.Conn)    { conn.SetReadDeadline(time.Time{}) }
