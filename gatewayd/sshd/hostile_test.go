package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/internal/accesstest"
)

// dialClient logs in with the library, to do what no client program does.
func (w *world) dialClient(signers ...ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", w.address.String(), &ssh.ClientConfig{
		User: "agent:etl+web", Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)}, Timeout: 10 * time.Second,
		HostKeyCallback: ssh.FixedHostKey(accesstest.Signer("gw1").PublicKey()),
	})
}

func (w *world) client() *ssh.Client {
	w.t.Helper()
	c, err := w.dialClient(accesstest.Signer("agent:etl"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// liar offers one key and signs with another.
type liar struct{ offered, signs ssh.Signer }

func (l liar) PublicKey() ssh.PublicKey { return l.offered.PublicKey() }

func (l liar) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return l.signs.Sign(rand, data)
}

func TestHostileKeyThatIsNotHeld(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	etl, report := accesstest.Signer("agent:etl"), accesstest.Signer("agent:report")
	for name, signers := range map[string][]ssh.Signer{
		"offered and not held":              {liar{etl, report}},
		"offered, then another is proved":   {liar{etl, report}, report},
		"one that is held by somebody else": {report},
	} {
		if c, err := w.dialClient(signers...); err == nil {
			c.Close()
			t.Errorf("%s: logged in", name)
		}
	}
	if n := w.gateway.Status().Opened; n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
}

func TestHostileChannels(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	c := w.client()
	for _, kind := range []string{"direct-streamlocal@openssh.com", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "tun@openssh.com", "whatever"} {
		if ch, _, err := c.OpenChannel(kind, nil); err == nil {
			ch.Close()
			t.Errorf("a channel %s was opened", kind)
		}
	}
	for _, payload := range [][]byte{nil, {0}, ssh.Marshal(struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}{"127.0.0.1", 1 << 20, "x", 1})} {
		if ch, _, err := c.OpenChannel("direct-tcpip", payload); err == nil {
			ch.Close()
			t.Errorf("%q was forwarded", payload)
		}
	}
	for _, request := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", "hostkeys-prove-00@openssh.com", "x"} {
		if ok, _, err := c.SendRequest(request, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v", request, ok, err)
		}
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, request := range []string{"auth-agent-req@openssh.com", "x11-req", "simple@putty.projects.tartarus.org"} {
		if ok, err := s.SendRequest(request, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v", request, ok, err)
		}
	}
	for _, name := range []string{"LD_PRELOAD", "GIT_SSH_COMMAND", "PATH", "BASH_ENV", "ENV", "LCX", ""} {
		if err := s.Setenv(name, "x"); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := s.Setenv("LC_ALL", "C"); err != nil {
		t.Error(err)
	}
	for _, subsystem := range []string{"netconf", "sftp ", "", "SFTP"} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		s.Stderr = &errs
		if err := s.RequestSubsystem(subsystem); err != nil {
			t.Fatal(err)
		}
		var exit *ssh.ExitError
		if err := s.Wait(); err == nil || errors.As(err, &exit) && exit.ExitStatus() == 0 {
			t.Errorf("%q was served: %v", subsystem, err)
		}
		s.Close()
	}
	if !strings.Contains(w.host.Log(), "Accepted") {
		return
	}
	t.Error("the host was dialled")
}

// A channel runs one thing (RFC 4254 §6.5).
func TestHostileSecondExec(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	c := w.client()
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	run := func(text string) bool {
		ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Text string }{text}))
		return ok && err == nil
	}
	if !run("sleep 2") {
		t.Fatal("the first was refused")
	}
	if run("echo second") {
		t.Error("a second exec was taken")
	}
	if ok, _ := ch.SendRequest("shell", true, nil); ok {
		t.Error("a shell was opened after an exec")
	}
	if b, _ := io.ReadAll(ch); len(b) > 0 {
		t.Errorf("it answered %q", b)
	}
}

// Who connects and stays silent is sent away, and others are served meanwhile.
func TestHostileSilence(t *testing.T) {
	w := newWorld(t, setting{rules: execRules, options: Options{LoginTimeout: time.Second}})
	var silent []net.Conn
	for i := range 20 {
		c, err := net.Dial("tcp", w.address.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 1 {
			fmt.Fprint(c, "SSH-2.0-slow\r\n")
		}
		silent = append(silent, c)
	}
	if a := w.ssh("echo hello"); a.out != "hello\n" {
		t.Errorf("%+v", a)
	}
	for _, c := range silent {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("a silent client is still there: %v", err)
		}
	}
}

// What a command prints to move the cursor, set the title or fill the clipboard is recorded as it was.
func TestHostileEscapesAreKept(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	const escapes = "\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b[2J\x1b[?1049hgone\rover\xff\x00"
	if a := w.ssh(`sh -c 'printf "\033]52;c;ZXZpbA==\007\033]0;title\007\033[2J\033[?1049hgone\rover\377\000"'`); a.out != escapes {
		t.Errorf("%q", a.out)
	}
	var got []byte
	for _, r := range w.records() {
		if r.Stream == "stdout" {
			got = append(got, r.Output()...)
			if bytes.ContainsAny(r.Line, "\x1b\x07\x00\r") {
				t.Errorf("the line %q would change a terminal", r.Line)
			}
		}
	}
	if string(got) != escapes {
		t.Errorf("recorded %q", got)
	}
}
