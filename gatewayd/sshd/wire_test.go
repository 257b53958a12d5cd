package sshd

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// wires are two ends of a connection on loopback.
func wires(t *testing.T) (*wire, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	near, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { far.Close(); near.Close() })
	return newWire(near), far
}

// In whatever pieces something is written and read, it arrives whole, and what was written before Close too.
func TestWireCarriesEverything(t *testing.T) {
	w, far := wires(t)
	want := make([]byte, 5<<20)
	rand.Read(want)
	sizes := []int{1, 4096, 17, 32 << 10, 4096, 4096, 5, 100 << 10}
	go func() {
		left := want
		for i := 0; len(left) > 0; i++ {
			n := min(sizes[i%len(sizes)], len(left))
			if _, err := w.Write(left[:n]); err != nil {
				t.Error(err)
				return
			}
			left = left[n:]
		}
		w.Close()
	}()
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes arrived, %v", len(got), len(want), err)
	}

	w, far = wires(t)
	go func() { far.Write(want); far.Close() }()
	var got []byte
	buf := make([]byte, 100<<10)
	for i := 0; ; i++ {
		n, err := w.Read(buf[:sizes[i%len(sizes)]])
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		must(t, err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes were read", len(got), len(want))
	}
	if w.from != nil {
		t.Error("a buffer is kept with nothing in it")
	}
}

// A peer that reads nothing holds up neither the memory nor the end.
func TestHostileWirePeerThatDoesNotRead(t *testing.T) {
	w, _ := wires(t)
	stuck := make(chan int64, 1)
	go func() {
		var n int64
		for {
			m, err := w.Write(make([]byte, 64<<10))
			n += int64(m)
			if err != nil {
				stuck <- n
				return
			}
		}
	}()
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	w.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}
	select {
	case n := <-stuck:
		if n > 64<<20 {
			t.Errorf("%d bytes were taken", n)
		}
	case <-time.After(5 * time.Second):
		t.Error("a write goes on after the end")
	}
}

func kexInit(ciphers ...string) []byte {
	lists := []string{"curve25519-sha256", "ssh-ed25519", ciphers[0], ciphers[1], "", "", "none", "none", "", ""}
	p := append([]byte{4, 20}, make([]byte, 16)...)
	for _, l := range lists {
		p = append(binary.BigEndian.AppendUint32(p, uint32(len(l))), l...)
	}
	p = append(p, 0, 0, 0, 0, 0)
	p = append(p, make([]byte, 4)...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...)
}

// A client is offered the ciphers that cost least where it can do them, and all where it cannot.
func TestCiphersForClients(t *testing.T) {
	const usual = "chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com"
	for name, c := range map[string]struct {
		says string
		want []string
	}{
		"OpenSSH":              {"SSH-2.0-OpenSSH_9.2p1 Debian\r\n" + string(kexInit(usual, usual)), hardwareCiphers},
		"one of them only":     {"SSH-2.0-OpenSSH_9.2\r\n" + string(kexInit(usual, "aes256-gcm@openssh.com")), []string{ssh.CipherAES256GCM}},
		"none of them":         {"SSH-2.0-OpenSSH_9.2\r\n" + string(kexInit("aes128-ctr", "aes128-ctr")), nil},
		"one direction only":   {"SSH-2.0-OpenSSH_9.2\r\n" + string(kexInit(usual, "aes128-ctr")), nil},
		"another client":       {"SSH-2.0-dropbear\r\n", nil},
		"no version":           {strings.Repeat("x", 400), nil},
		"a length that lies":   {"SSH-2.0-OpenSSH_9.2\r\n\xff\xff\xff\xff\x04\x14", nil},
		"another packet":       {"SSH-2.0-OpenSSH_9.2\r\n\x00\x00\x00\x20\x04\x15", nil},
		"lists without an end": {"SSH-2.0-OpenSSH_9.2\r\n\x00\x00\x00\x20\x04\x14" + strings.Repeat("\xff", 30), nil},
	} {
		w, far := wires(t)
		go func() { // in two pieces
			io.WriteString(far, c.says[:len(c.says)/2])
			io.WriteString(far, c.says[len(c.says)/2:])
		}()
		got, err := w.ciphersFor()
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
		back := make([]byte, len(c.says)) // the ssh package still reads all of it
		far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := io.ReadFull(w, back); err != nil || string(back) != c.says {
			t.Errorf("%s: %q, %v", name, back, err)
		}
	}
	w, far := wires(t)
	far.Close()
	if _, err := w.ciphersFor(); err == nil {
		t.Error("a client that went away has ciphers")
	}
}

func FuzzKexLists(f *testing.F) {
	f.Add(kexInit("a,b", "c"))
	f.Add([]byte("\x00\x00\x00\x20\x04\x14"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lists, whole := kexLists(b)
		if lists != nil && (!whole || len(lists) != 2) {
			t.Errorf("%q", lists)
		}
	})
}

// ssh without settings of its own ends up with a cipher that costs little, and one that can do only others works.
func TestCipherThatOpenSSHGets(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	for cipher, want := range map[string]string{"": "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com": "chacha20-poly1305@openssh.com", "aes256-ctr": "aes256-ctr", "aes256-gcm@openssh.com": "aes256-gcm@openssh.com"} {
		more := []string{"-v"}
		if cipher != "" {
			more = append(more, "-c", cipher)
		}
		a := w.ssh("echo hello", more...)
		if a.out != "hello\n" || !strings.Contains(a.err, "kex: server->client cipher: "+want) {
			t.Errorf("with %q: %+v", cipher, a)
		}
	}
}
