package sshd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// wire is a connection that asks the system less often. The ssh package writes each
// packet in three pieces, reads it in two, and reads a version byte by byte; here what
// is written while a write goes on leaves with the next, and much is read at once.
//
// Buffers are borrowed while there is something in them, so that an idle connection has none.
// An error of a write is told by the next one.
type wire struct {
	net.Conn

	// Owned by the one goroutine that reads.
	in   []byte // came and was not read yet
	from *[]byte
	full bool // the last read brought so much that more is likely to be there

	mu      sync.Mutex
	moved   sync.Cond // out got shorter, or err was set
	out     *[]byte   // to be written; nil when there is nothing
	writing bool      // a goroutine writes
	err     error

	sent []byte // written already, before the ssh package got to it: swallowed once
}

const (
	wireBuffer = 64 << 10
	// wireHeld bounds what waits to be written, in bytes; a packet on top of it fits the buffer.
	wireHeld = 2 * wireBuffer
	// wireLast is how long the last bytes may take when a connection is closed.
	wireLast = 250 * time.Millisecond
)

var (
	inPool  = sync.Pool{New: func() any { b := make([]byte, wireBuffer); return &b }}
	outPool = sync.Pool{New: func() any { b := make([]byte, 0, wireHeld+wireBuffer); return &b }}
)

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	w.moved.L = &w.mu
	return w
}

// Read is called by one goroutine at a time.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		if len(p) >= wireBuffer || len(p) >= 4096 && !w.full { // the ssh package's own buffer: where an idle connection waits
			n, err := w.Conn.Read(p)
			w.full = n == len(p) && n >= 4096
			return n, err
		}
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.in)
	if w.in = w.in[n:]; len(w.in) == 0 {
		w.giveBack()
	}
	return n, nil
}

func (w *wire) fill() error {
	w.from = inPool.Get().(*[]byte)
	n, err := w.Conn.Read(*w.from)
	w.in, w.full = (*w.from)[:n], n >= wireBuffer/4
	if n == 0 {
		w.giveBack()
		return err
	}
	return nil // an error comes again
}

func (w *wire) giveBack() {
	if w.from != nil {
		inPool.Put(w.from)
	}
	w.in, w.from = nil, nil
}

// Write returns when what waits is within bounds.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent != nil {
		was := w.sent
		w.sent = nil
		if bytes.Equal(p, was) {
			return len(p), nil
		}
	}
	for w.err == nil && w.out != nil && len(*w.out) > wireHeld {
		w.moved.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.out == nil {
		w.out = outPool.Get().(*[]byte)
	}
	*w.out = append(*w.out, p...)
	if !w.writing {
		w.writing = true
		go w.flush()
	}
	return len(p), nil
}

func (w *wire) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.out != nil && w.err == nil {
		b := w.out
		w.out = nil
		w.mu.Unlock()
		_, err := w.Conn.Write(*b)
		if cap(*b) <= wireHeld+wireBuffer {
			*b = (*b)[:0]
			outPool.Put(b)
		}
		w.mu.Lock()
		w.err = err
		w.moved.Broadcast()
	}
	w.writing = false
	w.moved.Broadcast()
}

// Close lets the last bytes go, for a moment, and closes the connection.
func (w *wire) Close() error {
	w.mu.Lock()
	if w.err == nil {
		w.Conn.SetWriteDeadline(time.Now().Add(wireLast))
		for w.writing {
			w.moved.Wait()
		}
		w.err = net.ErrClosed
		w.moved.Broadcast()
	}
	w.mu.Unlock()
	return w.Conn.Close()
}

// hardwareCiphers are those that processors help with, and that take the gateway the least time.
var hardwareCiphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}

// ciphersFor says which ciphers are offered to a client; nil is all. OpenSSH prefers
// others to those that are cheap here, and a server has no say but in what it offers.
// So its first packet, which it sends right behind its version, is looked at before
// the gateway's own is made: a client that can do the cheap ones is offered only these.
func (w *wire) ciphersFor() ([]string, error) {
	w.sent = []byte(serverName + "\r\n")
	if _, err := w.Conn.Write(w.sent); err != nil {
		return nil, err
	}
	buf := inPool.Get().(*[]byte)
	w.from, w.in = buf, (*buf)[:0]
	for {
		end := bytes.IndexByte(w.in, '\n')
		switch {
		case end < 0 && len(w.in) > 255, end >= 0 && !strings.HasPrefix(string(w.in), "SSH-2.0-OpenSSH_"):
			return nil, nil // the ssh package knows what to do with it
		case end >= 0:
			if lists, whole := kexLists(w.in[end+1:]); whole {
				return common(lists, hardwareCiphers), nil
			}
		}
		if len(w.in) == wireBuffer {
			return nil, errors.New("the client's first packet does not end")
		}
		n, err := w.Conn.Read((*buf)[len(w.in):])
		w.in = (*buf)[:len(w.in)+n]
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// kexLists are the two lists of ciphers in an SSH_MSG_KEXINIT (RFC 4253 §7.1); none when
// the packet is another. whole is false when it has not come in full.
func kexLists(b []byte) (lists [][]string, whole bool) {
	if len(b) < 6 {
		return nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n < 2+16 || n > wireBuffer/2 || b[5] != 20 {
		return nil, true
	}
	if int64(len(b)) < 4+n {
		return nil, false
	}
	in := &fields{b: b[6+16 : 4+n]}
	for i := range 4 { // key exchanges, host keys, ciphers to the server and from it
		list := strings.Split(in.string(), ",")
		if i >= 2 {
			lists = append(lists, list)
		}
	}
	if in.bad {
		return nil, true
	}
	return lists, true
}

// common are those of want that all lists have; nil when there are none.
func common(lists [][]string, want []string) []string {
	if len(lists) == 0 {
		return nil
	}
	var all []string
	for _, c := range want {
		if !slices.ContainsFunc(lists, func(l []string) bool { return !slices.Contains(l, c) }) {
			all = append(all, c)
		}
	}
	return all
}
