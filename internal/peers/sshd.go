package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SSHServer is a running OpenSSH server of our own. It serves one account, the
// one that it runs as.
type SSHServer struct {
	Port int
	User string // whom to log in as
	Dir  string // a folder that the account can write to; commands begin in the account's own home
	// HostKey is the server's public key, in authorized_keys form.
	HostKey string

	dir     string
	process *Process
}

// SSHOptions configure an SSHServer.
type SSHOptions struct {
	// AuthorizedKeys may log in, each in authorized_keys form.
	AuthorizedKeys []string
	// UserCA signs certificates that may log in as User; "" is none.
	UserCA string
	// Settings are further lines of sshd_config.
	Settings []string
	Progress Progress
}

func findSSHD(ctx context.Context, progress Progress) (*Tool, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin") {
		path := filepath.Join(dir, "sshd")
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 && filepath.IsAbs(path) { // it starts itself anew by its path
			return &Tool{Path: path}, nil
		}
	}
	tool, err := aptProgram(ctx, "openssh-server", "usr/sbin/sshd", progress)
	if err != nil {
		return nil, &Missing{Peer: "sshd", Reason: "not in PATH or the usual directories; " + err.Error(), Install: "apt-get install openssh-server (macOS has it)"}
	}
	return tool, nil
}

// Rsync finds or fetches rsync.
func Rsync(ctx context.Context, progress Progress) (*Tool, error) {
	if path, err := exec.LookPath("rsync"); err == nil {
		return &Tool{Path: path, Env: CleanEnv(os.Environ(), "/nonexistent")}, nil
	}
	tool, err := aptProgram(ctx, "rsync", "usr/bin/rsync", progress)
	if err != nil {
		return nil, &Missing{Peer: "rsync", Reason: "not in PATH; " + err.Error(), Install: "apt-get install rsync"}
	}
	tool.Env = append(CleanEnv(os.Environ(), "/nonexistent"), tool.Env...)
	return tool, nil
}

// SSHD starts an OpenSSH server on 127.0.0.1, on a port that the system chooses.
func SSHD(ctx context.Context, opt SSHOptions) (*SSHServer, error) {
	tool, err := findSSHD(ctx, opt.Progress)
	if err != nil {
		return nil, err
	}
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	name := as.name
	if as.credential == nil {
		current, err := user.Current()
		if err != nil {
			return nil, err
		}
		name = current.Username
	}
	if shell := shellOf(name); strings.HasSuffix(shell, "/nologin") || strings.HasSuffix(shell, "/false") {
		return nil, &Missing{Peer: "an account for sshd", Reason: "the user " + name + " has no shell to log in with", Install: "useradd --system --shell /bin/sh postgres"}
	}
	dir, err := as.workDir("sallyport-sshd-")
	if err != nil {
		return nil, err
	}
	s := &SSHServer{User: name, Dir: filepath.Join(dir, "home"), dir: dir}
	if err := s.start(ctx, as, tool, opt); err != nil {
		return nil, errors.Join(fmt.Errorf("sshd: %w", err), os.RemoveAll(dir))
	}
	return s, nil
}

// shellOf is a local user's login shell; "" when /etc/passwd does not tell.
func shellOf(name string) string {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) == 7 && fields[0] == name {
			return fields[6]
		}
	}
	return ""
}

func (s *SSHServer) start(ctx context.Context, as account, tool *Tool, opt SSHOptions) error {
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		return err
	}
	hostKey := filepath.Join(s.dir, "host_key")
	var err error
	if s.HostKey, err = NewSSHKey(ctx, hostKey, ""); err != nil {
		return err
	}
	if s.Port, err = choosePort(); err != nil {
		return err
	}
	config := []string{
		"ListenAddress 127.0.0.1", fmt.Sprintf("Port %d", s.Port), "HostKey " + hostKey, "PidFile none", "UsePAM no", "StrictModes no",
		"AuthorizedKeysFile " + filepath.Join(s.dir, "authorized_keys"), "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"Subsystem sftp internal-sftp", "AcceptEnv LANG LC_* APP_*", "MaxStartups 100", "MaxSessions 100", "PermitUserEnvironment no",
	}
	if session := filepath.Join(filepath.Dir(tool.Path), "../lib/openssh/sshd-session"); exists(session) { // from 9.8 on, a program beside it
		config = append(config, "SshdSessionPath "+filepath.Clean(session))
	}
	if opt.UserCA != "" {
		ca := filepath.Join(s.dir, "user_ca")
		if err := os.WriteFile(ca, []byte(opt.UserCA+"\n"), 0o644); err != nil {
			return err
		}
		config = append(config, "TrustedUserCAKeys "+ca)
	}
	files := map[string]string{"authorized_keys": strings.Join(opt.AuthorizedKeys, "\n") + "\n", "sshd_config": strings.Join(append(config, opt.Settings...), "\n") + "\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if !as.reaches(tool.Path) { // it lies in the cache of a user whose home others cannot enter
		root := filepath.Dir(filepath.Dir(filepath.Dir(tool.Path)))
		if err := os.CopyFS(filepath.Join(s.dir, "root"), os.DirFS(filepath.Join(root))); err != nil {
			return err
		}
		if tool, err = unpackedTool(filepath.Join(s.dir, "root"), "usr/sbin/sshd"); err != nil {
			return err
		}
	}
	if err := as.own(s.dir); err != nil {
		return err
	}
	return s.run(ctx, as, tool)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (s *SSHServer) run(ctx context.Context, as account, tool *Tool) error {
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(tool.Path, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	cmd.Dir = s.Dir
	cmd.Env = append(CleanEnv(os.Environ(), s.Dir), tool.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential}
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = Guard(cmd, "TERM", s.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dial := func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if err := s.process.awaitReady(ctx, dial, s.Log); err != nil {
		s.process.Stop(time.Second, syscall.SIGTERM)
		return err
	}
	return nil
}

// Log is what the server wrote so far.
func (s *SSHServer) Log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(text)
}

// Stop ends the server and removes its folder.
func (s *SSHServer) Stop() error {
	s.process.Stop(5*time.Second, syscall.SIGTERM)
	return os.RemoveAll(s.dir)
}

// StartSSHD starts an SSHServer for one test.
func StartSSHD(t testing.TB, opt SSHOptions) *SSHServer {
	t.Helper()
	s, err := SSHD(context.WithoutCancel(t.Context()), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log := s.Log()
			t.Logf("sshd: %s", log[max(0, len(log)-3000):])
		}
		s.Stop()
	})
	return s
}

// Ansible finds or fetches the program ansible, which runs one module on hosts.
func Ansible(ctx context.Context, progress Progress) (*Tool, error) {
	if path, err := exec.LookPath("ansible"); err == nil {
		return &Tool{Path: path, Env: CleanEnv(os.Environ(), "/nonexistent")}, nil
	}
	tool, err := aptProgram(ctx, "ansible-core", "usr/bin/ansible", progress)
	if err != nil {
		return nil, &Missing{Peer: "ansible", Reason: "not in PATH; " + err.Error(), Install: "apt-get install ansible-core"}
	}
	packages := filepath.Join(filepath.Dir(filepath.Dir(tool.Path)), "lib/python3/dist-packages")
	tool.Env = append(append(CleanEnv(os.Environ(), "/nonexistent"), tool.Env...), "PYTHONPATH="+packages, "LC_ALL=C.UTF-8")
	return tool, nil
}
