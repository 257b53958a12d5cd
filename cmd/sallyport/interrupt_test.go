package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

// road is all that lies between psql and PostgreSQL: an access repo in git, and a gateway that enforces it.
type road struct {
	target  *peers.PostgresServer
	role    string
	repo    string // folder of the access repo
	key     string // file
	gateway string // host:port
}

func newRoad(t *testing.T) *road {
	t.Helper()
	r := &road{target: peers.SharedPostgres(t)}
	database := r.target.NewDatabase(t)
	r.role = "gateway_" + database
	const password = "canary-of-the-target"
	if err := r.target.CreateRole(t.Context(), r.role, password); err != nil {
		t.Fatal(err)
	}
	files := accesstest.New(t, time.Now())
	files.Write(reviews.PathOf(reviews.KindConnection, "orders-db"), reviews.KindConnection, "Connection", "orders-db", fmt.Sprintf(`
  protocol: postgres
  target: {host: %s, port: %d, database: %s, user: %s, ca: %s}
  credential: "env:ORDERS_DB_PASSWORD"
`, r.target.Host, r.target.Port, database, r.role, r.target.CAFile))
	t.Setenv("ORDERS_DB_PASSWORD", password)
	files.Review("orders-db/etl", 1, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n")
	r.checkOut(t, files)
	r.serve(t, files)
	return r
}

// checkOut writes the access repo to a git work tree, and the agent's key to a file.
func (r *road) checkOut(t *testing.T, files *accesstest.Repo) {
	t.Helper()
	r.repo = t.TempDir()
	for name, f := range files.Files {
		put(t, filepath.Join(r.repo, filepath.FromSlash(name)), f.Data)
	}
	git, err := peers.Git(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "-m", "access"}} {
		if _, err := git.Run(t.Context(), r.repo, args...); err != nil {
			t.Fatal(err)
		}
	}
	r.key = filepath.Join(t.TempDir(), "agent_etl")
	b, err := os.ReadFile("../../testdata/keys/agent_etl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.key, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *road) serve(t *testing.T, files *accesstest.Repo) {
	t.Helper()
	journal, err := record.Open(record.Options{Dir: t.TempDir(), Gateway: "gw1", Durability: record.DurabilityProcess,
		Sign: func(m []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { journal.Close() })
	store, err := credential.NewStore([]string{"env:ORDERS_DB_PASSWORD"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	gateway, err := gatewayd.New(gatewayd.Config{Name: "gw1", Fingerprint: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()),
		Journal: journal, Credentials: store, Log: log, Summaries: func(record.Summary) {}})
	if err != nil {
		t.Fatal(err)
	}
	gateway.Swap(files.Release(1))
	certificate, err := identity.GatewayCertificate(accesstest.Key("gw1"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.gateway = listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- postgres.Serve(ctx, listener, postgres.Options{Gateway: gateway, Log: log,
			TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// running is how many long queries run at the target itself.
func (r *road) running(t *testing.T) int {
	t.Helper()
	rows, err := r.target.Query(t.Context(), "postgres", "select 1 from pg_stat_activity where usename = '"+r.role+"' and state = 'active' and query like '%pg_sleep%'")
	if err != nil {
		t.Fatal(err)
	}
	return len(rows)
}

func (r *road) wait(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); r.running(t) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d long queries at the target, want %d", r.running(t), want)
		}
	}
}

// Ctrl-C in a psql that `sallyport connect` runs: the terminal interrupts both,
// the query ends at the target within a second, psql hears 57014, and connect ends as psql does.
func TestInterruptThroughConnect(t *testing.T) {
	r := newRoad(t)
	sallyport, err := exec.LookPath("sallyport") // this test binary, see TestMain
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		libpq int
		flags []string
	}{
		{"socket libpq 15", 15, nil},
		{"socket libpq 18", 18, nil},
		{"TCP libpq 15", 15, []string{"--tcp"}},
		{"TCP libpq 18", 18, []string{"--tcp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			psql, err := peers.PsqlWithLibpq(t.Context(), c.libpq, nil)
			if err != nil {
				t.Fatal(err)
			}
			args := append([]string{"connect", "orders-db", "--as", "agent:etl", "--key", r.key, "--repo", r.repo, "--gateway", "gw1@" + r.gateway}, c.flags...)
			cmd := exec.CommandContext(t.Context(), sallyport, append(args, "--", psql.Path, "-XAtq")...)
			cmd.Env = append(append([]string{}, psql.Env...), "TMPDIR="+t.TempDir(), "XDG_RUNTIME_DIR=")
			cmd.Stdin = strings.NewReader("\\set VERBOSITY sqlstate\nselect pg_sleep(60);\n")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			for r.running(t) != 1 {
				select {
				case err := <-ended:
					t.Fatalf("%v\n%s", err, stderr.String())
				case <-time.After(10 * time.Millisecond):
				}
			}
			start := time.Now()
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			r.wait(t, 0)
			if took := time.Since(start); took > time.Second {
				t.Errorf("the query ran on for %s", took)
			}
			// A psql that reads a script ends with 3 when it is interrupted, and so does connect.
			exit := (*exec.ExitError)(nil)
			if err := <-ended; !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(stderr.String(), "ERROR:  57014") {
				t.Errorf("%v, psql said %q and %q", err, stdout.String(), stderr.String())
			}
		})
	}
}
