package sshd

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Programs that run others when an option says so: a rule names the options, so none can be brought in.
func TestHostileOptions(t *testing.T) {
	w := newWorld(t, setting{rules: `
  allow:
    - {exec: [tar, -cf, /dev/null, "*"]}
    - {exec: [find, "/srv*"]}
    - {exec: [git-upload-pack, "/srv*"]}
    - {exec: [rsync, --server, --sender, -vlogDtpr, ., "/srv/*"]}
    - {exec: [less, "*.log"]}
    - {text: "cd /srv && ls"}
`})
	marker := filepath.Join(w.host.Dir, "ran")
	for _, text := range []string{
		"tar -cf /dev/null --checkpoint=1 --checkpoint-action=exec=touch " + marker,
		"tar -cf /dev/null --checkpoint-action=exec=id", "tar -cf /dev/null '--to-command=touch x'", "tar -cf /dev/null -I'touch x'",
		"find /srv -exec touch " + marker, "find /srv -fprintf " + marker, "find '/srv' -delete", "find -exec id",
		"git-upload-pack --exec=id", "git-upload-pack '/srv' --upload-pack=id", "git upload-pack /srv", "git-upload-pack /srv/../etc/x",
		"rsync --server --sender -vlogDtpr --rsh=id . /srv/x", "rsync --server -vlogDtpr . /srv/x", "rsync --server --sender -vlogDtpr . /srv/../etc", "rsync --server --sender -vlogDtpr . /srv/x/y",
		"less +!id x.log", "less -Kx.log", "less x.log y.log", "less '!id'",
		"cd /srv && ls ", " cd /srv && ls", "cd /srv && ls\n", "cd /srv  && ls", "cd /srv && ls #", "cd /srv &&\u00a0ls", "cd /srv && ls\x00", "\ufeffcd /srv && ls", "cd /srv && ls; id",
		"l\\ess x.log", "le''ss x.log -K", "less $'x.log'", "less x.log\rid", "less x.log\x1bid", "LESS=x less x.log", "less {x,y}.log", "less x.log&", "less `id`.log", `less "$(id)".log`, "less x\u202e.log",
	} {
		a := w.ssh0(text)
		if a.code != 77 || a.out != "" {
			t.Errorf("%q: %+v", text, a)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program ran")
	}
	if strings.Contains(w.host.Log(), "Accepted publickey") {
		t.Error("the host was dialled for denied commands")
	}
}

// ssh0 runs a text that ssh itself could not be given, such as one with a zero byte.
func (w *world) ssh0(text string) answer {
	w.t.Helper()
	s, err := w.client().NewSession()
	must(w.t, err)
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &out, &errs
	err = s.Run(text)
	a := answer{out: out.String(), err: errs.String()}
	if exit, is := err.(*ssh.ExitError); is {
		a.code = exit.ExitStatus()
	} else if err != nil {
		a.code = -1
	}
	return a
}

// sftp requests that no program sends.
func TestHostileSFTPRequests(t *testing.T) {
	w, dir := tree(t)
	s, err := w.client().NewSession()
	must(t, err)
	defer s.Close()
	in, err := s.StdinPipe()
	must(t, err)
	out, err := s.StdoutPipe()
	must(t, err)
	must(t, s.RequestSubsystem("sftp"))
	in.Write(builder{0, 0, 0, 0, fxpInit}.uint32(3).done())
	greeting, _, err := readPacket(out, nil)
	must(t, err)
	for _, name := range []string{"copy-data", "expand-path@openssh.com", "home-directory", "users-groups-by-id@openssh.com", "fstatvfs@openssh.com"} {
		if bytes.Contains(greeting, []byte(name)) {
			t.Errorf("%s is offered", name)
		}
	}
	id := uint32(0)
	ask := func(p packet) packet {
		t.Helper()
		id++
		p.setID(id)
		_, err := in.Write(p)
		must(t, err)
		answer, _, err := readPacket(out, nil)
		must(t, err)
		return answer
	}
	status := func(a packet) uint32 {
		if a.kind() != fxpStatus {
			return fxOK
		}
		return a.payload().uint32()
	}
	ext := func(name string) builder { return newPacket(fxpExtended, 0).string(name) }
	open := ask(newPacket(fxpOpen, 0).string(dir + "/log/a.log").uint32(fxfRead).uint32(0).done())
	if open.kind() != fxpHandle {
		t.Fatalf("%q", open)
	}
	handle := open.payload().string()
	for name, p := range map[string]packet{
		"copy-data":                       ext("copy-data").string(handle).raw(make([]byte, 16)).string(handle).raw(make([]byte, 8)).done(),
		"expand-path":                     ext("expand-path@openssh.com").string("~root").done(),
		"home-directory":                  ext("home-directory").string("root").done(),
		"users-groups":                    ext("users-groups-by-id@openssh.com").string("").string("").done(),
		"fstatvfs":                        ext("fstatvfs@openssh.com").string(handle).done(),
		"posix-rename out":                ext("posix-rename@openssh.com").string(dir + "/in/old").string(dir + "/log/old").done(),
		"posix-rename over a secret":      ext("posix-rename@openssh.com").string(dir + "/in/old").string(dir + "/secret/key").done(),
		"rename through ..":               newPacket(fxpRename, 0).string(dir + "/in/old").string(dir + "/in/../secret/key").done(),
		"hardlink of a secret":            ext("hardlink@openssh.com").string(dir + "/secret/key").string(dir + "/in/k").done(),
		"hardlink through a link":         ext("hardlink@openssh.com").string(dir + "/log/dir/key").string(dir + "/in/k").done(),
		"lsetstat of a secret":            ext("lsetstat@openssh.com").string(dir + "/secret/key").uint32(attrPermissions).uint32(0o777).done(),
		"setstat through a link":          newPacket(fxpSetstat, 0).string(dir + "/log/link").uint32(attrPermissions).uint32(0o777).done(),
		"truncation by setstat":           newPacket(fxpSetstat, 0).string(dir + "/log/a.log").uint32(attrSize).raw(make([]byte, 8)).done(),
		"fsetstat on a reader":            newPacket(fxpFsetstat, 0).string(handle).uint32(attrSize).raw(make([]byte, 8)).done(),
		"statvfs elsewhere":               ext("statvfs@openssh.com").string("/").done(),
		"a write on a reader":             newPacket(fxpWrite, 0).string(handle).raw(make([]byte, 8)).string("x").done(),
		"a handle that is none":           newPacket(fxpRead, 0).string("xx").raw(make([]byte, 8)).uint32(10).done(),
		"open for writing by flags":       newPacket(fxpOpen, 0).string(dir + "/log/a.log").uint32(fxfRead | fxfTruncate).uint32(0).done(),
		"open of no flags, created":       newPacket(fxpOpen, 0).string(dir + "/log/new").uint32(fxfCreate).uint32(0).done(),
		"open with extended attributes":   newPacket(fxpOpen, 0).string(dir + "/in/new").uint32(fxfWrite | fxfCreate).uint32(attrExtended).uint32(0).done(),
		"a path with a zero byte":         newPacket(fxpOpen, 0).string(dir + "/log/a.log\x00/../../secret/key").uint32(fxfRead).uint32(0).done(),
		"a path that is not UTF-8":        newPacket(fxpOpen, 0).string(dir + "/log/\xff").uint32(fxfRead).uint32(0).done(),
		"a symlink to itself and out":     newPacket(fxpSymlink, 0).string("/etc").string(dir + "/in/etc").done(),
		"readlink of a secret's folder":   newPacket(fxpReadlink, 0).string(dir + "/secret/x").done(),
		"a request that does not exist":   newPacket(99, 0).string("x").done(),
		"opendir of what a link leads to": newPacket(fxpOpendir, 0).string(dir + "/log/dir").done(),
	} {
		if a := ask(p); status(a) == fxOK {
			t.Errorf("%s was done: %q", name, a)
		}
	}
	for name, text := range map[string]string{"log/a.log": "one\n", "secret/key": "secret\n", "in/old": "old\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"in/k", "in/etc", "log/new", "log/old", "in/new"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

// A flood of channels meets the limit, and the session goes on; huge variables and names meet theirs.
func TestHostileFloods(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	c := w.client()
	var wg sync.WaitGroup
	var mu sync.Mutex
	opened := 0
	for range 200 {
		wg.Go(func() {
			if ch, requests, err := c.OpenChannel("session", nil); err == nil {
				go ssh.DiscardRequests(requests)
				defer ch.Close()
				mu.Lock()
				opened++
				mu.Unlock()
				time.Sleep(300 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if opened == 0 || opened > maxChannels {
		t.Errorf("%d channels were open at once", opened)
	}
	w.eventually("channels can be opened again", func() bool {
		s, err := c.NewSession()
		if err != nil {
			return false
		}
		defer s.Close()
		for range maxSetup + 10 {
			s.Setenv("LC_X", strings.Repeat("x", 30<<10))
		}
		if ok, _ := s.SendRequest(strings.Repeat("r", 30<<10), true, nil); ok {
			t.Error("a request of a huge name was taken")
		}
		out, err := s.Output("echo hello")
		return err != nil || string(out) == "hello\n"
	})
	if a := w.ssh("echo hello"); a.out != "hello\n" {
		t.Errorf("%+v", a)
	}
}

// A transfer that runs when the review goes away ends within a second, with keys exchanged anew all the while.
func TestRevocationDuringATransfer(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	cmd := exec.Command("ssh", append(w.sshOptions("etl"), "-o", "RekeyLimit=1M", "127.0.0.1", "sh -c 'exec cat /dev/zero'")...)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	n, err := io.CopyN(io.Discard, out, 20<<20)
	if err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	w.repo.Remove("reviews/web/etl.yaml")
	began := time.Now()
	w.release()
	io.Copy(io.Discard, out)
	cmd.Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the transfer went on for %v", took)
	}
	w.eventually("the host's side has ended", func() bool { return len(w.gateway.Status().Sessions) == 0 })
}

// A forwarding rule is for the name that it names: no other spelling of the same place.
func TestHostileForwardNames(t *testing.T) {
	w := newWorld(t, setting{rules: "\n  allow:\n    - {exec: [id]}\n"})
	w.review(fmt.Sprintf("\n  allow:\n    - {forward: \"127.0.0.1:%s\"}\n", w.portOfHost()))
	w.release()
	c := w.client()
	for _, host := range []string{"localhost", "127.1", "0", "0.0.0.0", "::1", "[::1]", "::ffff:127.0.0.1", "2130706433", "127.0.0.1.", "127.0.0.1\x00", " 127.0.0.1", "0x7f.1"} {
		if conn, err := c.Dial("tcp", net.JoinHostPort("127.0.0.1", "22")); err == nil {
			conn.Close()
			t.Error("another port was opened")
		}
		ch, _, err := c.OpenChannel("direct-tcpip", ssh.Marshal(struct {
			Host   string
			Port   uint32
			Origin string
			From   uint32
		}{host, uint32(w.host.Port), "127.0.0.1", 1}))
		if err == nil {
			ch.Close()
			t.Errorf("%q was opened", host)
		}
	}
}
