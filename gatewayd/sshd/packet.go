package sshd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The packets of sftp version 3 (draft-ietf-secsh-filexfer-02), which OpenSSH and nearly everybody speaks.
const (
	fxpInit     = 1
	fxpVersion  = 2
	fxpOpen     = 3
	fxpClose    = 4
	fxpRead     = 5
	fxpWrite    = 6
	fxpLstat    = 7
	fxpFstat    = 8
	fxpSetstat  = 9
	fxpFsetstat = 10
	fxpOpendir  = 11
	fxpReaddir  = 12
	fxpRemove   = 13
	fxpMkdir    = 14
	fxpRmdir    = 15
	fxpRealpath = 16
	fxpStat     = 17
	fxpRename   = 18
	fxpReadlink = 19
	fxpSymlink  = 20
	fxpStatus   = 101
	fxpHandle   = 102
	fxpData     = 103
	fxpName     = 104
	fxpAttrs    = 105
	fxpExtended = 200
	fxpReply    = 201

	fxOK               = 0
	fxPermissionDenied = 3
	fxFailure          = 4
	fxBadMessage       = 5
	fxUnsupported      = 8

	fxfRead      = 0x01
	fxfWrite     = 0x02
	fxfAppend    = 0x04
	fxfCreate    = 0x08
	fxfTruncate  = 0x10
	fxfExclusive = 0x20

	attrSize        = 0x01
	attrOwner       = 0x02
	attrPermissions = 0x04
	attrTimes       = 0x08
	attrExtended    = 0x80000000
)

// maxPacket bounds a packet in bytes, as OpenSSH does.
const maxPacket = 256 << 10

var errPacket = errors.New("not an sftp packet")

// packet is one packet with its length, type and, except for INIT and VERSION, id: 4, 1 and 4 bytes.
type packet []byte

func (p packet) kind() byte       { return p[4] }
func (p packet) id() uint32       { return binary.BigEndian.Uint32(p[5:]) }
func (p packet) setID(id uint32)  { binary.BigEndian.PutUint32(p[5:], id) }
func (p packet) payload() *fields { return &fields{b: p[9:]} }

// readPacket reads one into buf where it fits, and checks its length before it believes it.
func readPacket(from io.Reader, buf []byte) (packet, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, buf, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 5 || n > maxPacket {
		return nil, buf, fmt.Errorf("%w: its length is %d", errPacket, n)
	}
	if cap(buf) < int(n)+4 {
		buf = make([]byte, int(n)+4)
	}
	p := packet(buf[:int(n)+4])
	copy(p, head[:])
	if _, err := io.ReadFull(from, p[4:]); err != nil {
		return nil, buf, err
	}
	return p, buf, nil
}

// eachPacket reads packets with an id until one fails or serve does. A packet is valid until serve returns.
func eachPacket(from io.Reader, serve func(packet) error) error {
	var buf []byte
	for {
		p, used, err := readPacket(from, buf)
		if err != nil {
			return err
		}
		buf = used
		if len(p) < 9 {
			return errPacket
		}
		if err := serve(p); err != nil {
			return err
		}
	}
}

// fields reads the payload of a packet. After the first value that is not there all are zero and bad is set.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n < 0 || len(f.b) < n {
		f.bad = true
		return nil
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) uint32() uint32 {
	b := f.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (f *fields) uint64() uint64 {
	b := f.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (f *fields) bytes() []byte {
	n := f.uint32()
	if n > maxPacket {
		f.bad = true
		return nil
	}
	return f.take(int(n))
}

func (f *fields) string() string { return string(f.bytes()) }

// attrs are the attributes that a client sets, as far as they are decided on.
type attrs struct {
	flags uint32
	mode  uint32
}

func (f *fields) attrs() (a attrs) {
	a.flags = f.uint32()
	if a.flags&attrSize != 0 {
		f.uint64()
	}
	if a.flags&attrOwner != 0 {
		f.take(8)
	}
	if a.flags&attrPermissions != 0 {
		a.mode = f.uint32()
	}
	if a.flags&attrTimes != 0 {
		f.take(8)
	}
	if a.flags&^(attrSize|attrOwner|attrPermissions|attrTimes) != 0 {
		f.bad = true // nobody sends extended ones, and what they mean is not known
	}
	return a
}

// ordinary reports attributes that whoever writes a file sets on it: no owner, no special mode bits.
func (a attrs) ordinary() bool {
	return a.flags&attrOwner == 0 && a.mode&0o7000 == 0
}

// builder makes packets.
type builder []byte

func newPacket(kind byte, id uint32) builder {
	return binary.BigEndian.AppendUint32(append(make(builder, 4, 64), kind), id)
}

func (b builder) uint32(v uint32) builder { return binary.BigEndian.AppendUint32(b, v) }
func (b builder) string(s string) builder { return append(b.uint32(uint32(len(s))), s...) }
func (b builder) raw(v []byte) builder    { return append(b, v...) }

func (b builder) done() packet {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return packet(b)
}

func statusPacket(id, code uint32, text string) packet {
	return newPacket(fxpStatus, id).uint32(code).string(text).string("en").done()
}
