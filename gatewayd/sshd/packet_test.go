package sshd

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// Whatever a client or a host sends, reading it ends, and no length is believed before it is checked.
func FuzzPackets(f *testing.F) {
	f.Add([]byte(newPacket(fxpOpen, 1).string("/a").uint32(fxfRead).uint32(0).done()))
	f.Add([]byte(newPacket(fxpWrite, 2).string("h").raw(make([]byte, 8)).string("data").done()))
	f.Add([]byte(newPacket(fxpSetstat, 3).string("/a").uint32(0xffffffff).done()))
	f.Add([]byte(statusPacket(4, fxPermissionDenied, "no")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		from := bytes.NewReader(b)
		var buf []byte
		for {
			p, used, err := readPacket(from, buf)
			if cap(used) > maxPacket+4 {
				t.Fatalf("%d bytes were taken", cap(used))
			}
			if err != nil {
				if !errors.Is(err, errPacket) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				return
			}
			buf = used
			if len(p) < 9 {
				continue
			}
			in := p.payload()
			in.string()
			in.attrs()
			in.uint64()
			in.bytes()
			if in.bad && len(in.b) > len(p) {
				t.Fatal("more is left than came")
			}
		}
	})
}
