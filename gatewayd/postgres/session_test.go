package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// Denials.

func TestADenialInATransactionRollsItBack(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	run(t, c, "begin")
	run(t, c, "insert into app.orders values (1000, 1, 'new')")
	_, err := try(t, c, "drop table vault.keys")
	if message := sqlstate(t, err, "42501"); !strings.Contains(message, "denial d-") {
		t.Errorf("the message alone does not help: %q", message)
	}
	_, err = try(t, c, "select 1")
	sqlstate(t, err, "25P02")
	run(t, c, "commit")
	if got := w.one("select count(*) from app.orders where id = 1000"); got != "0" {
		t.Error("the transaction was committed")
	}
	run(t, c, "select 1")
}

func TestADenialInAPipelineRollsItBack(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	batch := &pgconn.Batch{}
	batch.ExecParams("insert into app.orders values (1001, 1, 'new')", nil, nil, nil, nil)
	batch.ExecParams("drop table vault.keys", nil, nil, nil, nil)
	batch.ExecParams("insert into app.orders values (1002, 1, 'new')", nil, nil, nil, nil)
	_, err := c.ExecBatch(t.Context(), batch).ReadAll()
	sqlstate(t, err, "42501")
	if got := w.one("select count(*) from app.orders where id in (1001, 1002)"); got != "0" {
		t.Errorf("%s rows of the pipeline were committed", got)
	}
	if strings.Contains(w.target.Log(), "drop table vault.keys") {
		t.Error("the denied statement reached the target")
	}
	run(t, c, "select 1")
}

func TestOneDeniedPartDeniesTheWholeText(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	_, err := try(t, c, "insert into app.orders values (1003, 1, 'new'); drop table vault.keys")
	sqlstate(t, err, "42501")
	if got := w.one("select count(*) from app.orders where id = 1003"); got != "0" {
		t.Error("a part ran")
	}
}

// A name of the extended protocol must not run under the decision about something else.
func TestAFailedParseDoesNotLendItsDecision(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	r.send(parse("s", "select 1 as one"), synced())
	r.until('Z')
	// The second Parse fails at the target, where s stays what it was.
	r.send(parse("s", "select 2 as two"), synced(), bind("", "s"), execute(""), synced())
	if got := r.kinds(2); got != "EZ2DCZ" {
		t.Errorf("answers %s", got)
	}
	if !bytes.Contains(r.seen, []byte("\x00\x00\x00\x011")) || strings.Contains(w.target.Log(), "<unnamed>: select 2") {
		t.Error("another statement ran than was decided on")
	}
	// SQL gives the name another meaning.
	r.send(query("deallocate s"), query("prepare s as select 3"), bind("", "s"), execute(""), synced())
	if got := r.kinds(3); !strings.HasSuffix(got, "EZ") {
		t.Errorf("a name that SQL took over was executed: %s", got)
	}
}

func TestUnsupportedMessagesAreDeniedInStep(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	for _, kind := range []byte{'F', 'z', 'p'} {
		r.send(message(kind, []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0}))
		if got := r.kinds(1); got != "EZ" {
			t.Errorf("%q: %s", kind, got)
		}
	}
	r.send(query("select 1"))
	if got := r.kinds(1); got != "TDCZ" {
		t.Errorf("out of step: %s", got)
	}
}

func TestManyGroupsWithDenialsStayInStep(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	var all []byte
	want := ""
	for i := range 300 {
		text := "select 1"
		if i%7 == 0 {
			text = "drop table vault.keys"
			want += "EZ"
		} else {
			want += "12DCZ"
		}
		all = append(all, bytes.Join([][]byte{parse("", text), bind("", ""), execute(""), synced()}, nil)...)
	}
	go r.conn.Write(all)
	if got := r.kinds(300); got != want {
		t.Errorf("answers differ:\n%s\n%s", got, want)
	}
}

// Hostile bytes.

func TestHostileFramesEndOnlyTheirOwnSession(t *testing.T) {
	w := newWorld(t, variant{})
	other := w.connect()
	bad := encode(nil, &pgproto3.Bind{Parameters: [][]byte{[]byte("abcd")}})
	binary.BigEndian.PutUint32(bad[bytes.Index(bad, []byte("abcd"))-4:], 0xfffffffe)
	for name, b := range map[string][]byte{
		"2 GiB":               {'Q', 0x7f, 0xff, 0xff, 0xff},
		"length 3":            {'Q', 0, 0, 0, 3},
		"Bind with length -2": append(parse("", "select $1::text"), bad...),
		"no NUL":              message('Q', []byte("select 1")),
		"embedded NUL":        message('Q', []byte("select 1\x00;drop table x\x00")),
	} {
		r := w.raw()
		r.send(b)
		answer, _ := io.ReadAll(r.conn)
		if !bytes.Contains(answer, []byte("C08P01")) {
			t.Errorf("%s: %q", name, answer)
		}
		if got := run(t, other, "select 1"); got != "1" {
			t.Errorf("%s: the other session got %q", name, got)
		}
	}
}

func TestStartupAttacks(t *testing.T) {
	w := newWorld(t, variant{startup: 300 * time.Millisecond})
	ssl := []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
	login := startupFrame(version30, "user", "agent:etl", "database", "orders-db")
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"half a startup":          login[:9],
		"bytes behind SSLRequest": append(bytes.Clone(ssl), login...),
		"20,000 bytes":            binary.BigEndian.AppendUint32(nil, 20000),
		"4.0":                     startupFrame(4<<16, "user", "u"),
		"2.0":                     startupFrame(2<<16, "user", "u"),
		"replication":             startupFrame(version30, "user", "u", "replication", "database"),
		"role":                    startupFrame(version30, "user", "u", "options", "-c role=postgres"),
	} {
		conn, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		deadlineIn(conn, 5*time.Second)
		conn.Write(b)
		answer, err := io.ReadAll(conn)
		if errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(interface{ Timeout() bool })) && isTimeout(err) {
			t.Errorf("%s: the connection was left open", name)
		}
		if bytes.Contains(answer, []byte{'R', 0, 0, 0, 8}) {
			t.Errorf("%s: was asked for a password or let in: %q", name, answer)
		}
		conn.Close()
	}
	if got := w.backends(); got != "0" {
		t.Errorf("%s connections reached the target", got)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestDirectTLSNeedsItsProtocolName(t *testing.T) {
	w := newWorld(t, variant{})
	for _, protocols := range [][]string{nil, {"h2"}, {"postgresql"}} {
		conn, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		if err != nil {
			if len(protocols) == 1 && protocols[0] == "postgresql" {
				t.Error(err)
			}
			continue
		}
		deadlineIn(conn, 5*time.Second)
		conn.Write(startupFrame(version30, "user", "agent:etl", "database", "orders-db"))
		answer := make([]byte, 9)
		_, err = io.ReadFull(conn, answer)
		if wanted := len(protocols) == 1 && protocols[0] == "postgresql"; wanted != (err == nil && answer[0] == 'R') {
			t.Errorf("ALPN %q: %q, %v", protocols, answer, err)
		}
		conn.Close()
	}
}

func TestNewerProtocolsAreNegotiated(t *testing.T) {
	w := newWorld(t, variant{})
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadlineIn(conn, 5*time.Second)
	conn.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30}) // GSSENCRequest
	answer := make([]byte, 1)
	if io.ReadFull(conn, answer); answer[0] != 'N' {
		t.Fatalf("GSSENCRequest: %q", answer)
	}
	conn.Write(startupFrame(3<<16|9999, "user", "agent:etl", "database", "orders-db", "_pq_.grease", "x"))
	in := newFrameReader(conn, maxFrame)
	f, err := in.next()
	if err != nil || f.kind != 'v' || !bytes.Contains(f.body(), []byte("_pq_.grease")) {
		t.Fatalf("%q, %v", f.raw, err)
	}
	c := w.config()
	c.MaxProtocolVersion = "3.2"
	pg, err := pgconn.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(pg.SecretKey()); got != 32 {
		t.Errorf("a cancel key of %d bytes", got)
	}
	pg.Close(t.Context())
}

func TestOneBytePerPacket(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	for _, b := range bytes.Join([][]byte{parse("", "select 7 as x"), bind("", ""), execute(""), synced(), query("select 8")}, nil) {
		r.conn.Write([]byte{b})
	}
	if got := r.kinds(2); got != "12DCZTDCZ" {
		t.Errorf("%s", got)
	}
}

// Logins.

func TestLoginsThatAreDenied(t *testing.T) {
	w := newWorld(t, variant{})
	for name, change := range map[string]func(*pgconn.Config){
		"no token":           func(c *pgconn.Config) { c.Password = "" },
		"garbage":            func(c *pgconn.Config) { c.Password = "secret" },
		"another principal":  func(c *pgconn.Config) { c.User = "user:alice" },
		"another connection": func(c *pgconn.Config) { c.Database = "payments" },
		"no review":          func(c *pgconn.Config) { c.Database = "orders-db/other" },
	} {
		c := w.config()
		change(c)
		_, err := pgconn.ConnectConfig(t.Context(), c)
		if name == "no token" {
			if err == nil {
				t.Error("no token: let in")
			}
			continue
		}
		if message := sqlstate(t, err, "28000"); !strings.Contains(message, "sallyport request") {
			t.Errorf("%s: the message names no way forward: %q", name, message)
		}
	}
	if got := w.backends(); got != "0" {
		t.Errorf("%s connections reached the target", got)
	}
}

func TestTargetsThatCannotBeUsed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	for _, c := range []struct {
		name, want string
		variant    func(w *world) variant
	}{
		{"down", "cannot be reached", func(w *world) variant {
			return variant{targetExtra: fmt.Sprintf("{host: 127.0.0.1, port: %d, database: x, user: x}", closed)}
		}},
		{"wrong password", "refused the gateway's credential", func(w *world) variant { return variant{password: "not-this-canary"} }},
		{"foreign certificate", "certificate cannot be verified", func(w *world) variant {
			return variant{targetExtra: fmt.Sprintf("{host: 127.0.0.1, port: %d, database: x, user: x, ca: %s}", w.target.Port, w.target.OtherCA)}
		}},
		{"certificate for another name", "certificate is for another name", func(*world) variant {
			other, err := peers.Postgres(t.Context(), peers.PostgresOptions{Certificate: peers.WrongName})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { other.Stop() })
			return variant{targetExtra: fmt.Sprintf("{host: 127.0.0.1, port: %d, database: x, user: x, ca: %s}", other.Port, other.CAFile)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.variant(&world{target: sharedTarget(t)}))
			_, err := pgconn.ConnectConfig(t.Context(), w.config())
			message := sqlstate(t, err, "08006")
			if !strings.Contains(message, c.want) || strings.Contains(message, "canary") {
				t.Errorf("%q", message)
			}
		})
	}
}

func TestNothingIsForwardedWithoutARecording(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	run(t, c, "select 1")
	w.journal.Close()
	if _, err := try(t, c, "insert into app.orders values (2000, 1, 'unrecorded')"); err == nil {
		t.Error("a statement ran without a recording")
	}
	if got := w.one("select count(*) from app.orders where id = 2000"); got != "0" {
		t.Error("the statement reached the target")
	}
	if _, err := pgconn.ConnectConfig(t.Context(), w.config()); err == nil {
		t.Error("a session was opened without a recording")
	}
}

// Cancelling and cutting.

func TestCancel(t *testing.T) {
	w := newWorld(t, variant{})
	for _, direct := range []bool{false, true} {
		config := w.config()
		if direct {
			config.TLSConfig = nil
		}
		c, err := pgconn.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		go func() {
			until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
			cancelWith(t, w, c.PID(), []byte{1, 2, 3, 4}) // no key of anybody's
			c.CancelRequest(t.Context())
		}()
		_, err = try(t, c, "select pg_sleep(30)")
		sqlstate(t, err, "57014")
		if got := run(t, c, "select 2"); got != "2" {
			t.Errorf("%q", got)
		}
	}
}

func TestCancelWithAWrongKey(t *testing.T) {
	w := newWorld(t, variant{})
	c, other := w.connect(), w.connect()
	done := make(chan error, 1)
	go func() {
		_, err := try(t, c, "select pg_sleep(1)")
		done <- err
	}()
	until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
	cancelWith(t, w, c.PID(), other.SecretKey())
	cancelWith(t, w, c.PID(), nil)
	if err := <-done; err != nil {
		t.Errorf("cancelled: %v", err)
	}
}

func cancelWith(t testing.TB, w *world, pid uint32, key []byte) {
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	deadlineIn(conn, 5*time.Second)
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(key)))
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, codeCancel), pid)
	conn.Write(append(b, key...))
	io.ReadAll(conn)
}

func (w *world) sleeping() string {
	return w.one("select count(*) from pg_stat_activity where usename = '" + w.role + "' and state = 'active' and query like '%pg_sleep%'")
}

func TestARemovedReviewCutsAndTheBackendIsGone(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	done := make(chan error, 1)
	go func() {
		_, err := try(t, c, "select pg_sleep(60)")
		done <- err
	}()
	until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
	for path := range w.files {
		if strings.HasPrefix(path, "reviews/") {
			delete(w.files, path)
		}
	}
	next := w.release()
	start := time.Now()
	w.gateway.Swap(next)
	select {
	case err := <-done:
		if message := sqlstate(t, err, "57P01"); !strings.Contains(message, "review_removed") {
			t.Errorf("%q", message)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the session was not cut")
	}
	t.Logf("cut after %s", time.Since(start))
	until(t, "the backend is gone", func() bool { return w.backends() == "0" })
	until(t, "the session has ended", func() bool { return w.ended() == 1 })
	if got := w.summaries[0].End; got != "review_removed" {
		t.Errorf("end %q", got)
	}
}

func (w *world) ended() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.summaries)
}

func TestTheRowLimitCuts(t *testing.T) {
	w := newWorld(t, variant{rows: 50})
	c := w.connect()
	_, err := try(t, c, "select generate_series(1, 100000)")
	if message := sqlstate(t, err, "57P01"); !strings.Contains(message, "row_limit") {
		t.Errorf("%q", message)
	}
}

func TestADeadClientEndsItsQuery(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	r.send(query("select pg_sleep(60)"))
	until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
	r.conn.Close()
	until(t, "the backend is gone", func() bool { return w.backends() == "0" })
}

// A statement that waits behind one which shifts the scope keeps nobody from noticing.
func TestAClientThatDiesWhileItsPipelineWaits(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	r.send(query("create temp table x as select 1 as a from pg_sleep(60)"), query("select 1"))
	until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
	r.conn.Close()
	until(t, "the backend is gone", func() bool { return w.backends() == "0" })
}

func TestATargetThatDies(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	w.one("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '" + w.role + "'")
	if _, err := try(t, c, "select 1"); err == nil {
		t.Error("an answer from nowhere")
	}
	until(t, "the session has ended", func() bool { return w.ended() == 1 })
}

// A raw client.

type rawClient struct {
	t    testing.TB
	conn net.Conn
	in   *frameReader
	seen []byte
}

// raw logs in over plain loopback.
func (w *world) raw() *rawClient {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	deadlineIn(conn, 30*time.Second)
	r := &rawClient{t: w.t, conn: conn, in: newFrameReader(conn, maxFrame)}
	r.send(startupFrame(version30, "user", "agent:etl", "database", "orders-db"))
	if f, err := r.in.next(); err != nil || f.kind != 'R' {
		w.t.Fatalf("%q, %v", f.raw, err)
	}
	r.send(message('p', append([]byte(w.token()), 0)))
	r.until('Z')
	return r
}

func (r *rawClient) send(messages ...[]byte) {
	r.t.Helper()
	if _, err := r.conn.Write(bytes.Join(messages, nil)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rawClient) until(kind byte) {
	r.t.Helper()
	for {
		f, err := r.in.next()
		if err != nil {
			r.t.Fatal(err)
		}
		if f.kind == 'E' {
			r.t.Logf("%q", f.raw)
		}
		if f.kind == kind {
			return
		}
	}
}

// kinds reads up to the n-th ReadyForQuery and returns the types of all messages.
func (r *rawClient) kinds(n int) string {
	r.t.Helper()
	var out []byte
	for n > 0 {
		f, err := r.in.next()
		if err != nil {
			r.t.Fatalf("after %q: %v", out, err)
		}
		r.seen = append(r.seen, f.raw...)
		if f.kind != 'S' && f.kind != 'N' {
			out = append(out, f.kind)
		}
		if f.kind == 'Z' {
			n--
		}
	}
	return string(out)
}

func startupFrame(version uint32, pairs ...string) []byte {
	packet := startupPacket(version, pairs...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(4+len(packet))), packet...)
}

func query(text string) []byte { return encode(nil, &pgproto3.Query{String: text}) }
func parse(name, text string) []byte {
	return encode(nil, &pgproto3.Parse{Name: name, Query: text})
}
func bind(portal, statement string) []byte {
	return encode(nil, &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: statement})
}
func execute(portal string) []byte { return encode(nil, &pgproto3.Execute{Portal: portal}) }
func synced() []byte               { return syncMessage }
