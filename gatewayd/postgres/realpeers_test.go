package postgres

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

// majors are the versions of PostgreSQL that the gateway is for.
var majors = []int{15, 16, 17, 18}

// onEach runs a test before a shared server of each version.
func onEach(t *testing.T, versions []int, test func(t *testing.T, target *peers.PostgresServer)) {
	for _, major := range versions {
		t.Run(fmt.Sprint(major), func(t *testing.T) { test(t, peers.SharedPostgresMajor(t, major)) })
	}
}

// Every version: logins, denials, masks, prepared statements, COPY, cancelling.
func TestEveryVersion(t *testing.T) {
	onEach(t, majors, func(t *testing.T, target *peers.PostgresServer) {
		w := newWorld(t, variant{target: target, masks: canaryMasks})
		c := w.connect()
		if got := c.ParameterStatus("server_version"); !strings.HasPrefix(got, fmt.Sprint(target.Major)) {
			t.Errorf("server_version %s", got)
		}
		if got := w.one("select left(rolpassword, 6) from pg_authid where rolname = '" + w.role + "'"); got != "SCRAM-" {
			t.Errorf("the target keeps the password as %s", got)
		}
		if got := w.one("select version from pg_stat_ssl s join pg_stat_activity a using (pid) where usename = '" + w.role + "'"); got != "TLSv1.3" {
			t.Errorf("to the target: %s", got)
		}
		for _, format := range []int16{0, 1} {
			r := c.ExecParams(t.Context(), "select name, email from app.customers where id = $1", [][]byte{[]byte("3")}, nil, nil, []int16{format}).Read()
			if got := joined(r.Rows); r.Err != nil || !strings.HasPrefix(got, "name 3|m***@") {
				t.Errorf("%q, %v", got, r.Err)
			}
		}
		_, err := try(t, c, "drop table vault.keys")
		sqlstate(t, err, "42501")
		run(t, c, "create table app.made (id int primary key, n int generated always as (id + 1) stored)")
		if _, err := c.CopyFrom(t.Context(), strings.NewReader("1\n2\n"), "copy app.made (id) from stdin"); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := c.CopyTo(t.Context(), &out, "copy app.orders to stdout"); err != nil || strings.Count(out.String(), "\n") != 100 {
			t.Errorf("%v, %d bytes", err, out.Len())
		}
		go func() {
			until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
			c.CancelRequest(t.Context())
		}()
		_, err = try(t, c, "select pg_sleep(30)")
		sqlstate(t, err, "57014")
		if got := run(t, c, "select sum(n) from app.made"); got != "5" {
			t.Errorf("%s", got)
		}
		if seen := w.recorded(); strings.Contains(seen, "canary.example") || strings.Contains(seen, w.secret) {
			t.Error("the recording holds a masked value or the credential")
		}
	})
}

// A target that still has md5 passwords.
func TestMD5Login(t *testing.T) {
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			target, err := peers.Postgres(t.Context(), peers.PostgresOptions{Major: major, MD5: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { target.Stop() })
			w := newWorld(t, variant{target: target})
			if got := w.one("select left(rolpassword, 3) from pg_authid where rolname = '" + w.role + "'"); got != "md5" {
				t.Fatalf("the password is kept as %s", got)
			}
			if got := run(t, w.connect(), "select 1"); got != "1" {
				t.Errorf("%q", got)
			}
			w = newWorld(t, variant{target: target, password: "not-this"})
			_, err = pgconn.ConnectConfig(t.Context(), w.config())
			sqlstate(t, err, "08006")
		})
	}
}

// psql, with the libpq of each version, over each kind of TLS that it knows.
func TestPsqlOfEveryVersion(t *testing.T) {
	w := newWorld(t, variant{})
	host, port, _ := strings.Cut(w.address, ":")
	for _, c := range []struct {
		libpq    int
		settings string
	}{
		{15, "sslmode=require gssencmode=prefer"}, {15, "sslmode=disable"}, {16, "sslmode=require"}, {17, "sslmode=require"},
		{17, "sslmode=require sslnegotiation=direct"}, {18, "sslmode=require sslnegotiation=direct"},
		{18, "sslmode=require max_protocol_version=3.2"}, {18, "sslmode=disable min_protocol_version=3.2 max_protocol_version=latest"},
	} {
		t.Run(fmt.Sprintf("libpq %d %s", c.libpq, c.settings), func(t *testing.T) {
			psql, err := peers.PsqlWithLibpq(t.Context(), c.libpq, nil)
			if err != nil {
				t.Fatal(err)
			}
			dsn := fmt.Sprintf("host=%s port=%s user=agent:etl dbname=orders-db %s", host, port, c.settings)
			out, err := psql.With("PGPASSWORD="+w.token()).Run(t.Context(), t.TempDir(), "-XAtq", dsn, "-c", "select count(*) from app.orders")
			if err != nil || strings.TrimSpace(out) != "100" {
				t.Fatalf("%q, %v", out, err)
			}
			w.interrupted(t, psql, dsn)
		})
	}
}

// interrupted runs a long query in psql and sends it what Ctrl-C does.
func (w *world) interrupted(t *testing.T, psql *peers.Tool, dsn string) {
	t.Helper()
	cmd := psql.With("PGPASSWORD="+w.token()).Command(t.Context(), "-XAtq", dsn, "-c", `\set VERBOSITY sqlstate`, "-c", "select pg_sleep(60)", "-c", "select 'goes on'")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
	start := time.Now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	until(t, "the sleep has ended", func() bool { return w.sleeping() == "0" })
	err := cmd.Wait()
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), "57014") {
		t.Errorf("psql said %q %q", stdout.String(), stderr.String())
	}
}

// Statements of the gateway's own are cancelled like the client's: the client
// hears of it, and the session goes on.
func TestACancelThatHitsTheGatewaysOwnQuery(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	locker, err := peers.Connect(t.Context(), w.target.SuperuserDSN(w.database))
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close(t.Context())
	// Of all that runs in that database, only the gateway's look at the catalog reads pg_rewrite.
	blocked := func() bool {
		rows, err := w.target.Query(t.Context(), "postgres", "select 1 from pg_locks l join pg_database d on d.oid = l.database where not granted and relation = 'pg_rewrite'::regclass and datname = '"+w.database+"'")
		return err == nil && len(rows) == 1
	}
	for name, statement := range map[string]func() error{
		"simple":   func() error { _, err := try(t, c, "select 1"); return err },
		"extended": func() error { return c.ExecParams(t.Context(), "select 1", nil, nil, nil, nil).Read().Err },
		"pipeline": func() error {
			b := &pgconn.Batch{}
			b.ExecParams("insert into app.orders values (9000, 1, 'x')", nil, nil, nil, nil)
			b.ExecParams("create table app.later (a int)", nil, nil, nil, nil)
			b.ExecParams("select 1", nil, nil, nil, nil)
			_, err := c.ExecBatch(t.Context(), b).ReadAll()
			return err
		},
	} {
		if name != "pipeline" {
			run(t, c, "create table app.made_"+name+" (a int)")
		}
		run(t, locker, "begin; lock table pg_catalog.pg_rewrite in access exclusive mode")
		go func() {
			until(t, name+": it waits", blocked)
			c.CancelRequest(t.Context())
		}()
		sqlstate(t, statement(), "57014")
		run(t, locker, "rollback")
		if got := run(t, c, "select count(*) from app.orders"); got != "100" {
			t.Errorf("%s: %s rows", name, got)
		}
	}
}

// A peer that vanishes without a word is noticed: both ways of a session probe it.
func TestConnectionsAreKeptAlive(t *testing.T) {
	w := newWorld(t, variant{})
	doc, err := reviews.ParseConnection("connections/orders-db.yaml", w.files["connections/orders-db.yaml"].Data)
	if err != nil {
		t.Fatal(err)
	}
	store, err := credential.NewStore([]string{doc.Spec.Credential})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := store.Resolve(t.Context(), doc.Spec.Credential)
	if err != nil {
		t.Fatal(err)
	}
	back, err := login(t.Context(), doc, secret, map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer back.conn.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // as cmd/gatewayd does
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go net.Dial("tcp", listener.Addr().String())
	client, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for name, conn := range map[string]net.Conn{"target": back.conn.(*tls.Conn).NetConn(), "client": client} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		on := 0
		raw.Control(func(fd uintptr) { on, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) })
		if err != nil || on == 0 {
			t.Errorf("%s: SO_KEEPALIVE is %d, %v", name, on, err)
		}
	}
}
