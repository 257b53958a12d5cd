package sshd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
)

// summary is that of the session that ended last.
func (w *world) summary() record.Summary {
	w.t.Helper()
	w.records()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.summaries[len(w.summaries)-1]
}

func TestSummarySaysSessionLevelEnforcement(t *testing.T) {
	w := newWorld(t, setting{rules: "\n  allow:\n    - {shell: true}\n    - {exec: [echo, \"**\"]}\n"})
	w.ssh("echo hello")
	if got := w.summary().Enforcement; got != "" {
		t.Errorf("a session of commands is summarised with %q", got)
	}
	w.run("ssh", "exit\n", append(w.sshOptions("etl"), "127.0.0.1")...)
	if got := w.summary().Enforcement; got != "session-level enforcement" {
		t.Errorf("a session with a shell is summarised with %q", got)
	}
}

// Input is recorded where it is asked for; what answers a question for a password is not, nor what masks find.
func TestRecordedInputHasNoPasswords(t *testing.T) {
	w := newWorld(t, setting{rules: "\n  allow:\n    - {exec: [sh, -c, \"**\"]}\n", options: Options{RecordInput: true},
		connection: "  mask:\n    - {pattern: 'tok_[a-z0-9]{8}', with: redact}\n"})
	cmd := exec.Command("ssh", append(w.sshOptions("etl"), "127.0.0.1", `sh -c 'read a; printf "Password for x: " >&2; read b; echo thanks; read c'`)...)
	in, err := cmd.StdinPipe()
	must(t, err)
	errs, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	io.WriteString(in, "first tok_abcd1234\n")
	buf := make([]byte, 100)
	if n, err := errs.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "Password") {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	io.WriteString(in, "hunt")
	time.Sleep(50 * time.Millisecond)
	io.WriteString(in, "er2\nlast\n")
	in.Close()
	cmd.Wait()
	var got, said string
	for _, r := range w.records() {
		if r.Stream == "stdin" {
			got += string(r.Output())
		}
		if r.Result != nil {
			said += r.Result.Message
		}
		if strings.Contains(string(r.Line), "hunt") || strings.Contains(string(r.Line), "er2") {
			t.Errorf("the password is in %s", r.Line)
		}
	}
	if got != "first [masked]\nlast\n" || !strings.Contains(said, "stdin without 8 bytes") {
		t.Errorf("recorded %q, and %q", got, said)
	}
}

// What masks find in output is not in the record of the command that asked for it, while the host gets it.
func TestMasksInCommandTexts(t *testing.T) {
	w := newWorld(t, setting{rules: "\n  allow:\n    - {exec: [basename, \"*\", \"1234\"]}\n", connection: "  mask:\n    - {pattern: 'tok_[a-z0-9]{8}', with: redact}\n"})
	if a := w.ssh("basename tok_abcd1234 1234"); a.out != "tok_abcd\n" {
		t.Errorf("%+v", a)
	}
	w.ssh("rm tok_abcd1234")
	w.ssh("echo $(echo tok_abcd1234)")
	var recordings []string
	for end := time.Now().Add(10 * time.Second); len(recordings) < 3; time.Sleep(10 * time.Millisecond) { // made after the client was answered
		var err error
		if recordings, err = filepath.Glob(filepath.Join(w.dir, "recordings/recordings/*/*/*/*.jsonl")); err != nil || time.Now().After(end) {
			t.Fatalf("%q, %v", recordings, err)
		}
	}
	if out, err := exec.Command("grep", append([]string{"-l", "tok_abcd1234"}, recordings...)...).CombinedOutput(); err == nil {
		t.Errorf("the secret is in %s", out)
	}
}

func TestLimitOfCommands(t *testing.T) {
	w, dir := tree(t)
	w.review(fmt.Sprintf("\n  allow:\n    - {sftp: read, path: \"%s/log/**\"}\n  limits: {commands: 6}", dir))
	w.release()
	got := filepath.Join(w.dir, "got")
	a := w.sftp(strings.Repeat(fmt.Sprintf("get %s/log/a.log %s\n", dir, got), 6))
	if a.code == 0 || !strings.Contains(a.err, "command_count_limit") || !strings.Contains(a.err, "6 commands a session") {
		t.Errorf("%+v", a)
	}
	if n := w.summary().Allowed; n != 6 {
		t.Errorf("%d commands ran", n)
	}
}

// More silent clients of one address than the gateway serves at once keep nobody of another out.
func TestHostileSilenceOfOneSource(t *testing.T) {
	if runtime.GOOS != "linux" {
		l := logins{every: map[netip.Prefix]int{}} // other systems have one loopback address only
		for range maxLoginsOfOne {
			l.enter(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1})
		}
		if _, ok := l.enter(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1}); !ok {
			t.Error("another address is kept out")
		}
		return
	}
	w := newWorld(t, setting{rules: execRules})
	for range maxLogins + 50 {
		c, err := net.Dial("tcp", w.address.String())
		must(t, err)
		defer c.Close()
	}
	began := time.Now()
	if a := w.ssh("echo hello", "-b", "127.0.0.2"); a.out != "hello\n" {
		t.Errorf("after %v: %+v", time.Since(began), a)
	}
}

func TestSourcesOfClients(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7:99": "192.0.2.7/32", "[::ffff:192.0.2.7]:99": "192.0.2.7/32", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "[fe80::1%lo]:1": "fe80::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", address)
		must(t, err)
		if got := sourceOf(a).String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
