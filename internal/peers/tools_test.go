package peers

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestIsolateEnv(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGSERVICE", "GIT_DIR", "SSH_AUTH_SOCK", "XDG_CONFIG_HOME"} {
		t.Setenv(name, "the user's own")
	}
	t.Run("inside", func(t *testing.T) {
		before := os.Getenv("HOME")
		IsolateEnv(t)
		for _, entry := range os.Environ() {
			if strings.Contains(entry, "the user's own") {
				t.Error(entry)
			}
		}
		if os.Getenv("HOME") == before {
			t.Error("HOME is still the user's")
		}
		if err := exec.Command("go", "env").Run(); err != nil {
			t.Errorf("go does not work any more: %v", err)
		}
	})
	if os.Getenv("PGHOST") != "the user's own" || os.Getenv("GIT_AUTHOR_NAME") != "" {
		t.Error("the environment did not come back")
	}
}

func TestConnectIgnoresTheUsersEnvironment(t *testing.T) {
	s := SharedPostgres(t)
	t.Setenv("PGOPTIONS", "-c search_path=nowhere")
	t.Setenv("PGAPPNAME", "the user's own")
	if got := scalar(t, s, "select current_setting('search_path') || ' ' || current_setting('application_name')"); got != `"$user", public sallyport-test` {
		t.Error(got)
	}
}

func TestPsqlIgnoresTheUsersEnvironment(t *testing.T) {
	s := SharedPostgres(t)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".psqlrc"), []byte("\\echo the user's own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("PGOPTIONS", "-c search_path=nowhere")
	psql, err := Psql(t.Context(), quiet(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	out, err := psql.Run(t.Context(), "", s.SuperuserDSN("postgres"), "-Atc", "show search_path")
	if err != nil || out != "\"$user\", public\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestGitIgnoresTheUsersConfiguration(t *testing.T) {
	theirs := t.TempDir()
	if err := os.WriteFile(filepath.Join(theirs, ".gitconfig"), []byte("[user]\n name = Their Own\n[core]\n hooksPath = /nonexistent\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", theirs)
	t.Setenv("GIT_AUTHOR_NAME", "Their Own")
	git, err := Git(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	repo := t.TempDir()
	for _, args := range [][]string{{"init", "--quiet"}, {"commit", "--quiet", "--allow-empty", "-m", "first"}} {
		if _, err := git.Run(t.Context(), repo, args...); err != nil {
			t.Fatal(err)
		}
	}
	out, err := git.Run(t.Context(), repo, "log", "--format=%an %D")
	if err != nil || out != "Test HEAD -> main\n" {
		t.Errorf("%q, %v", out, err)
	}
	out, err = git.Run(t.Context(), repo, "config", "--list", "--show-origin")
	if err != nil || strings.Contains(out, "Their Own") {
		t.Errorf("%q, %v", out, err)
	}
	_, err = git.With("GIT_AUTHOR_NAME=Alice").Run(t.Context(), repo, "no-such-verb")
	if err == nil || !strings.Contains(err.Error(), "git no-such-verb: exit status 1: git: 'no-such-verb' is not a git command") {
		t.Error(err)
	}
}

func TestAgentSigns(t *testing.T) {
	agent, err := SSHAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	public, err := NewSSHKey(t.Context(), key, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(public, "ssh-ed25519 ") || !strings.HasSuffix(public, " alice") {
		t.Errorf("public key %q", public)
	}
	if err := agent.Add(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil { // only the agent has it now
		t.Fatal(err)
	}
	message := filepath.Join(dir, "message")
	if err := os.WriteFile(message, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	keygen, err := SSHKeygen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keygen.Run(t.Context(), dir, "-Y", "sign", "-n", "file", "-f", key+".pub", message); err == nil {
		t.Error("signed without the agent")
	}
	if _, err := keygen.With("SSH_AUTH_SOCK="+agent.Socket).Run(t.Context(), dir, "-Y", "sign", "-n", "file", "-f", key+".pub", message); err != nil {
		t.Error(err)
	}
	if err := agent.Stop(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(agent.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("agent %d after Stop: %v", agent.Pid(), err)
	}
}

func TestGuardRefusesAPipe(t *testing.T) {
	cmd := exec.Command("/bin/cat")
	cmd.Stdout = &strings.Builder{}
	if _, err := Guard(cmd, "TERM", ""); err == nil {
		t.Error("started with a pipe")
	}
}

func TestStopEndsWithKill(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "started")
	cmd := exec.Command("/bin/sh", "-c", `trap "" TERM; : >"$0"; while :; do sleep 1; done`, marker)
	p, err := Guard(cmd, "TERM", "")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program ignores TERM", func() bool { _, err := os.Stat(marker); return err == nil })
	p.Stop(50*time.Millisecond, syscall.SIGTERM)
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Error(err)
	}
}

// TestNothingOutlivesAKilledParent runs this test binary once more, lets that start a server and an agent, and kills it the hard way.
func TestNothingOutlivesAKilledParent(t *testing.T) {
	if os.Getenv("PEERS_DOOMED") != "" {
		beDoomed(t)
		return
	}
	doomed := exec.Command(os.Args[0], "-test.run=^TestNothingOutlivesAKilledParent$")
	doomed.Env = append(os.Environ(), "PEERS_DOOMED=yes")
	out, err := doomed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	var serverPid, agentPid int
	var serverDir, agentDir string
	lines := bufio.NewScanner(out)
	for serverPid == 0 && lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "doomed %d %s %d %s", &serverPid, &serverDir, &agentPid, &agentDir); err != nil {
			t.Log(lines.Text())
		}
	}
	if err := doomed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = doomed.Wait() // killed, as intended
	if serverPid == 0 {
		t.Fatal("it never said what it had started")
	}
	for _, pid := range []int{serverPid, agentPid} {
		eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return !running(pid) })
	}
	for _, dir := range []string{serverDir, agentDir} {
		eventually(t, dir+" is gone", func() bool { _, err := os.Stat(dir); return errors.Is(err, os.ErrNotExist) })
	}
}

func beDoomed(t *testing.T) {
	s, err := Postgres(t.Context(), PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := SSHAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("doomed %d %s %d %s\n", s.Pid(), s.dir, agent.Pid(), agent.dir)
	<-s.Done() // the parent kills this process first
}

// running reports whether the process runs; on Linux, a zombie that nobody has reaped yet does not.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // "4711 (postgres) Z 1 …"
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at another process
	}
}

// A libpq 17 knows sslnegotiation; the test server then shows that TLS began without a request for it.
func TestPsqlWithLibpq(t *testing.T) {
	psql, err := PsqlWithLibpq(t.Context(), 17, quiet(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	s := SharedPostgresMajor(t, 17)
	dsn := s.SuperuserDSN("postgres") + "&sslnegotiation=direct"
	out, err := psql.Run(t.Context(), "", dsn, "-Atc", "select version from pg_stat_ssl where pid = pg_backend_pid()")
	if err != nil || strings.TrimSpace(out) != "TLSv1.3" {
		t.Fatalf("%q, %v", out, err)
	}
}

func TestSharedServersByVersion(t *testing.T) {
	for _, major := range []int{15, 17} {
		if s := SharedPostgresMajor(t, major); s.Major != major || s != SharedPostgresMajor(t, major) {
			t.Errorf("asked for %d and then again: %d, or another server", major, s.Major)
		}
	}
	t.Setenv("SALLYPORT_POSTGRES", "17")
	if s := SharedPostgres(t); s != SharedPostgresMajor(t, 17) {
		t.Errorf("SALLYPORT_POSTGRES=17 gives version %s", s.Version)
	}
}
