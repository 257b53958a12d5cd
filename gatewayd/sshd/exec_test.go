package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/policies"
)

const execRules = `
  allow:
    - {exec: [echo, "**"]}
    - {exec: [cat, "*"]}
    - {exec: [sh, -c, "**"]}
    - {text: "echo one && echo two"}
    - {exec: [sleep, "*"]}
    - {exec: [env]}
`

func TestExec(t *testing.T) {
	w := newWorld(t, setting{rules: execRules, connection: `  environment: [LANG, "APP_*"]` + "\n"})
	if a := w.ssh("echo hello world"); a.out != "hello world\n" || a.code != 0 || a.err != "" {
		t.Errorf("%+v", a)
	}
	list := w.records()
	var command, output, result bool
	for _, r := range list {
		command = command || r.Command != nil && r.Command.Statement == "echo hello world" && r.Command.Verdict == policies.Allow && r.Command.Rule == "allow[0]"
		output = output || r.Stream == "stdout" && string(r.Output()) == "hello world\n"
		result = result || r.Result != nil && r.Result.Tag == "exit status 0" && r.Result.Message == "stdout 12 bytes; stderr empty"
	}
	if !command || !output || !result {
		t.Errorf("the recording lacks something: command %v, output %v, result %v", command, output, result)
	}
	if a := w.ssh("echo one && echo two"); a.out != "one\ntwo\n" {
		t.Errorf("%+v", a)
	}
	if a := w.ssh("sh -c 'echo oops >&2; exit 3'"); a.err != "oops\n" || a.code != 3 {
		t.Errorf("%+v", a)
	}
	if a := w.ssh("sh -c 'kill -9 $$'"); a.code == 0 {
		t.Errorf("%+v", a)
	}
	if a := w.run("ssh", "some input\n", append(w.sshOptions("etl"), "127.0.0.1", "cat -")...); a.code != 77 { // options are named
		t.Errorf("%+v", a)
	}
	if a := w.run("ssh", "x", append(w.sshOptions("etl"), "-o", "SetEnv=APP_MODE=test SECRET=1", "127.0.0.1", "env")...); !strings.Contains(a.out, "APP_MODE=test") || strings.Contains(a.out, "SECRET") {
		t.Errorf("%+v", a)
	}
}

// Nothing of a denied command reaches the host.
func TestExecDenied(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	marker := filepath.Join(w.host.Dir, "marker-")
	w.review(execRules + "    - {exec: [touch, \"" + marker + "*\"]}\n")
	w.release()
	for _, text := range []string{
		"touch x", "echo hello; touch marker-x", "echo $(touch marker-x)", "echo `touch marker-x`", "touch marker-x && true", "touch\tmarker-x", "echo one && echo two ",
		"echo one && echo two; touch marker-x", "/bin/touch marker-x", "'touch' ../marker-x", "A=1 touch marker-x", "exec touch marker-x", "touch marker-x\n", "echo >marker-x",
		"cat -n", "cat /etc/passwd", "bash -c 'touch marker-x'", "",
	} {
		a := w.ssh(strings.ReplaceAll(text, "marker-", marker))
		if text == "" { // that is a shell
			if a.code == 0 {
				t.Errorf("a shell opened: %+v", a)
			}
			continue
		}
		if a.code != 77 || !strings.Contains(a.err, "sallyport: ") || !strings.Contains(a.err, "denial d-") || a.out != "" {
			t.Errorf("%q: %+v", text, a)
		}
	}
	if _, err := os.Stat(marker + "x"); err == nil {
		t.Error("the file was made")
	}
	if strings.Contains(w.host.Log(), "Accepted publickey") {
		t.Error("the host was dialled for denied commands")
	}
}

func TestShellOnlyByRule(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	a := w.run("ssh", "id\n", append(w.sshOptions("etl"), "127.0.0.1")...)
	if a.code != 77 || strings.Contains(a.out, "uid=") || !strings.Contains(a.out+a.err, "denial d-") {
		t.Errorf("%+v", a)
	}
	w = newWorld(t, setting{rules: "\n  allow:\n    - {shell: true}\n"})
	a = w.run("ssh", "echo $((40+2))\nexit\n", append(w.sshOptions("etl"), "127.0.0.1")...)
	if !strings.Contains(a.out, "42") || a.code != 0 {
		t.Errorf("%+v", a)
	}
	said := false
	for _, r := range w.records() {
		said = said || r.Event == "enforcement" && strings.HasPrefix(r.Data, "enforcement: session")
	}
	if !said {
		t.Error("the recording does not say what was enforced")
	}
}

func TestMasks(t *testing.T) {
	w := newWorld(t, setting{rules: execRules, connection: `
  mask:
    - {pattern: 'tok_[a-z0-9]{8}', with: redact}
    - {detect: card, with: redact}
`})
	for text, want := range map[string]string{
		"echo a tok_abcd1234 b":                                             "a [masked] b\n",
		"echo pay 4111 1111 1111 1111 now":                                  "pay [masked] now\n",
		`sh -c 'printf "tok_ab"; printf "cd1234\n" >&2; printf "cd1234 x"'`: "[masked] x",
	} {
		a := w.ssh(text)
		if a.out != want {
			t.Errorf("%q: %+v", text, a)
		}
		for _, r := range w.records() {
			if r.Stream != "" && strings.Contains(string(r.Output()), "tok_abcd1234") {
				t.Errorf("%q: recorded %q", text, r.Output())
			}
		}
	}
}

func TestWhoMayLogIn(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	w.file("report", pemOf("agent:report"))
	w.file("stranger", pemOf("stranger"))
	login := func(key, user string) answer {
		args := w.sshOptions(key)
		args[len(args)-1] = "User=" + user
		return w.run("ssh", "", append(args, "127.0.0.1", "echo hello")...)
	}
	if a := login("etl", "agent:etl+web/etl"); a.out != "hello\n" {
		t.Errorf("%+v", a)
	}
	for _, c := range []struct{ key, user, says string }{
		{"stranger", "agent:etl+web", "Permission denied"},
		{"etl", "agent:report+web", "Permission denied"},
		{"report", "agent:report+web", "no review lets agent:report use web"},
		{"etl", "agent:etl", "there is no connection"},
		{"etl", "agent:etl+nothing", "there is no connection nothing"},
		{"etl", "agent:etl+web/other", "no review"},
		{"etl", "root", "Permission denied"},
	} {
		if a := login(c.key, c.user); a.code == 0 || a.out != "" || !strings.Contains(a.err, c.says) {
			t.Errorf("%s as %s: %+v", c.key, c.user, a)
		}
	}
}

// With a terminal a client sees what it would see without the gateway, which on some machines is that the host gives none.
func TestTerminal(t *testing.T) {
	w := newWorld(t, setting{rules: "\n  allow:\n    - {exec: [tty]}\n"})
	w.file("direct", pemOf("target"))
	direct := w.run("ssh", "", "-F", "none", "-i", filepath.Join(w.dir, "direct"), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-p", w.portOfHost(), "-tt", w.host.User+"@127.0.0.1", "tty")
	a := w.ssh("tty", "-tt")
	if strings.HasPrefix(direct.out, "/dev/") != strings.HasPrefix(a.out, "/dev/") || direct.code == 0 && a.code != 0 {
		t.Errorf("through the gateway %+v, direct %+v", a, direct)
	}
}

// CVE-2024-45337: a client offers a key it does not hold, and proves another.
func TestTheProvedKeyCounts(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	agent, err := peers.SSHAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Stop()
	w.file("stranger", pemOf("stranger"))
	w.file("report", pemOf("agent:report"))
	w.file("etl.pub", accesstest.PublicKey("agent:etl"))
	args := w.sshOptions("stranger")
	args = append(args, "-i", filepath.Join(w.dir, "report"))
	args = append(args, "-o", "IdentityFile="+filepath.Join(w.dir, "etl.pub"), "127.0.0.1", "echo hello") // only its public half
	if err := os.Remove(filepath.Join(w.dir, "etl")); err != nil {
		t.Fatal(err)
	}
	if a := w.run("ssh", "", args...); a.code == 0 || a.out != "" {
		t.Errorf("%+v", a)
	}
}

func TestHostKeyIsPinned(t *testing.T) {
	w := newWorld(t, setting{rules: execRules, hostKey: accesstest.PublicKey("another host")})
	a := w.ssh("echo hello")
	if a.code == 0 || a.out != "" || !strings.Contains(a.err, "target_unavailable") {
		t.Errorf("%+v", a)
	}
	if strings.Contains(w.host.Log(), "Accepted") {
		t.Error("the gateway showed its credential to a host that is another")
	}
}

// A review that goes away ends what runs, at the host too, and the client hears why.
func TestRevocationEndsTheProcess(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	pidFile := filepath.Join(w.host.Dir, "pid")
	cmd := exec.Command("ssh", append(w.sshOptions("etl"), "127.0.0.1", `sh -c 'echo $$ > `+pidFile+`; trap "" HUP TERM; echo started; exec sleep 300'`)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs syncBuffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20)
	if n, err := out.Read(buf); err != nil || string(buf[:n]) != "started\n" {
		t.Fatalf("%q, %v, %s", buf[:n], err, &errs)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	alive := func() bool {
		return exec.Command("kill", "-0", strings.TrimSpace(string(pid))).Run() == nil
	}
	if !alive() {
		t.Fatal("the process does not run")
	}
	began := time.Now()
	w.repo.Remove("reviews/web/etl.yaml")
	w.release()
	w.eventually("the process is gone", func() bool { return !alive() })
	ended := time.Since(began)
	cmd.Wait()
	if took := time.Since(began); took > 3*time.Second || !strings.Contains(errs.String(), "review_removed") {
		t.Errorf("the client was cut after %v and heard %q", took, &errs)
	}
	t.Logf("the process ended %v after the release", ended.Round(time.Millisecond))
}

func TestForwarding(t *testing.T) {
	w := newWorld(t, setting{rules: execRules})
	target := "127.0.0.1:" + w.portOfHost()
	if a := w.run("ssh", "", append(w.sshOptions("etl"), "-W", target, "127.0.0.1")...); a.code == 0 || !strings.Contains(a.err, "forward") {
		t.Errorf("%+v", a)
	}
	w.review("\n  allow:\n    - {forward: \"" + target + "\"}\n")
	w.release()
	if a := w.run("ssh", "SSH-2.0-x\r\n", append(w.sshOptions("etl"), "-W", target, "127.0.0.1")...); !strings.HasPrefix(a.out, "SSH-2.0-OpenSSH") {
		t.Errorf("%+v", a)
	}
	if a := w.run("ssh", "", append(w.sshOptions("etl"), "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", "-N", "127.0.0.1")...); a.code == 0 {
		t.Errorf("a forwarding back was opened: %+v", a)
	}
}
