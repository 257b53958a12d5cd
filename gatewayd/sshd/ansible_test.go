package sshd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// ansible runs one module on the host through the gateway.
func (w *world) ansible(tool *peers.Tool, args ...string) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	inventory := w.file("inventory", fmt.Sprintf("web ansible_host=127.0.0.1 ansible_user=agent:etl+web ansible_port=%d\n", w.address.Port))
	options := w.sshOptions("etl")
	cmd := exec.CommandContext(ctx, tool.Path, append([]string{"web", "-i", inventory}, args...)...)
	cmd.Env = append(tool.Env, "HOME="+w.dir, "ANSIBLE_SSH_ARGS="+strings.Join(options[:len(options)-4], " "), "ANSIBLE_NOCOLOR=1", "ANSIBLE_SSH_RETRIES=0", "ANSIBLE_LOCAL_TEMP="+w.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The two forms of docs/ssh.md: raw, where each command is decided on, and modules through a pipe, where one text is.
func TestAnsible(t *testing.T) {
	tool, err := peers.Ansible(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, setting{rules: "\n  allow:\n    - {exec: [echo, \"web-*\"]}\n", options: Options{RecordInput: true}})
	if out, err := w.ansible(tool, "-e", "ansible_ssh_use_tty=no", "-m", "raw", "-a", "echo web-1"); err != nil || !strings.Contains(out, "web-1") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := w.ansible(tool, "-e", "ansible_ssh_use_tty=no", "-m", "raw", "-a", "echo web-1; id"); err == nil || strings.Contains(out, "uid=") || !strings.Contains(out, "denial d-") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := w.ansible(tool, "-m", "command", "-a", "id"); err == nil || strings.Contains(out, "uid=") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Fatal("modules need /usr/bin/python3 on the host: apt-get install python3-minimal")
	}
	w.review(`
  allow:
    - {text: "/bin/sh -c '/usr/bin/python3 && sleep 0'"}
`)
	w.release()
	out, err := w.ansible(tool, "-e", "ansible_pipelining=true ansible_python_interpreter=/usr/bin/python3", "-m", "command", "-a", "id")
	if err != nil || !strings.Contains(out, "uid=") {
		t.Errorf("%v: %s", err, out)
	}
	recorded := false
	for _, r := range w.records() {
		recorded = recorded || r.Stream == "stdin" && strings.Contains(string(r.Output()), "ANSIBALLZ")
	}
	if !recorded {
		t.Error("the module that ran is not in the recording")
	}
	if _, err := os.Stat(filepath.Join(w.host.Dir, ".ansible")); err == nil {
		t.Error("it left files on the host")
	}
}
