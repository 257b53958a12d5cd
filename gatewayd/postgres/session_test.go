package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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
	if log := logOf(w.target, w.database); strings.Contains(log, "drop table vault.keys") || !strings.Contains(log, "(1001, 1, 'new')") {
		t.Error("the denied statement reached the target, or the one before it did not")
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
	if !bytes.Contains(r.seen, []byte("\x00\x00\x00\x011")) || strings.Contains(logOf(w.target, w.database), "<unnamed>: select 2") {
		t.Error("another statement ran than was decided on")
	}
	// SQL gives the name another meaning.
	r.send(query("deallocate s"), query("prepare s as select 3"), bind("", "s"), execute(""), synced())
	if got := r.kinds(3); !strings.HasSuffix(got, "EZ") {
		t.Errorf("a name that SQL took over was executed: %s", got)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
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

// Cancelling and cutting.

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
	if message := sqlstate(t, err, "54000"); !strings.Contains(message, "row_limit") {
		t.Errorf("%q", message)
	}
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
