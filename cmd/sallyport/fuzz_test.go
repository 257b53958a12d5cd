package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"
)

// What is signed of a commit and its signature are all of it.
func FuzzSplitSignature(f *testing.F) {
	f.Add([]byte("tree 0\nauthor x\ngpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----\n\nmessage\n\ngpgsig x\n"))
	f.Add([]byte("gpgsig a\ngpgsig b\n\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		payload, signature, err := splitSignature(raw)
		if err != nil {
			return
		}
		// Each line of the signature goes with one character, or with "gpgsig ".
		lines := bytes.Count(signature, []byte("\n"))
		if want := len(raw); len(payload)+len(signature)+len("gpgsig ")+lines-1 != want {
			t.Fatalf("%q is taken apart into %q and %q", raw, payload, signature)
		}
		_, _ = committed(payload)
	})
}

// Whatever the gateway, or who says that it is one, answers during the login.
func FuzzReadMessage(f *testing.F) {
	f.Add(message('R', []byte{0, 0, 0, 0}))
	f.Add([]byte{'E', 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{'E', 0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := readMessage(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, message(kind, body)) {
			t.Fatalf("%q is read as %q %q", b, kind, body)
		}
	})
}

// Whatever a program on this machine sends to the socket of `sallyport connect`.
func FuzzLocalClient(f *testing.F) {
	f.Add(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeSSL))
	f.Add(append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeSSL), 0, 0, 0, 13, 0, 3, 0, 0, 'u', 0, 'x', 0, 0))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			defer theirs.Close()
			_ = theirs.SetDeadline(time.Now().Add(time.Second))
			go func() { _, _ = theirs.Read(make([]byte, 16)) }()
			_, _ = theirs.Write(b)
		}()
		p, err := readFirst(ours)
		if err != nil {
			return
		}
		packet, err := p.startup("agent:etl", "orders-db")
		if err != nil {
			return
		}
		if bytes.Count(packet, []byte("\x00user\x00")) != 1 || bytes.Count(packet, []byte("\x00database\x00")) != 1 {
			// A value may read so, too; a name may not.
			fields := bytes.Split(packet[8:], []byte{0})
			names := map[string]int{}
			for i := 0; i+1 < len(fields); i += 2 {
				names[string(fields[i])]++
			}
			if names["user"] != 1 || names["database"] != 1 {
				t.Fatalf("%q would be sent", packet)
			}
		}
	})
}
