package postgres

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A statement that runs too long is cancelled at the target and told why; the session goes on.
func TestTheStatementLimitCancels(t *testing.T) {
	w := newWorld(t, variant{limits: "statement: 1s"})
	c := w.connect()
	for name, slow := range map[string]func() error{
		"simple":   func() error { _, err := try(t, c, "select pg_sleep(60)"); return err },
		"extended": func() error { return c.ExecParams(t.Context(), "select pg_sleep(60)", nil, nil, nil, nil).Read().Err },
		"COPY in": func() error {
			_, err := c.CopyFrom(t.Context(), readerFunc(func(b []byte) (int, error) {
				time.Sleep(20 * time.Millisecond)
				return copy(b, "70000\t1\tx\n"), nil
			}), "copy app.orders from stdin")
			return err
		},
	} {
		start := time.Now()
		message := sqlstate(t, slow(), "57014")
		if took := time.Since(start); took < time.Second || took > 3*time.Second {
			t.Errorf("%s: cancelled after %s", name, took)
		}
		if !strings.Contains(message, "statement_limit") {
			t.Errorf("%s: %q", name, message)
		}
		if got := w.sleeping(); got != "0" {
			t.Errorf("%s: it runs on at the target", name)
		}
		if got := run(t, c, "select count(*) from app.orders"); got != "100" {
			t.Errorf("%s: then %s rows", name, got)
		}
	}
	if !strings.Contains(w.recorded(), "statement_limit") {
		t.Error("the recording does not say why")
	}
	// Many short ones in one pipeline are not one long one, and a client cannot lift the limit.
	b := &pgconn.Batch{}
	for range 4 {
		b.ExecParams("select pg_sleep(0.4)", nil, nil, nil, nil)
	}
	if _, err := c.ExecBatch(t.Context(), b).ReadAll(); err != nil {
		t.Errorf("a pipeline of short statements: %v", err)
	}
	try(t, c, "set statement_timeout = 0")
	_, err := try(t, c, "select pg_sleep(60)")
	sqlstate(t, err, "57014")
	// A cancel of the client's own is not said to be the limit's.
	go func() {
		until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
		c.CancelRequest(t.Context())
	}()
	_, err = try(t, c, "select pg_sleep(0.9)")
	if message := sqlstate(t, err, "57014"); strings.Contains(message, "statement_limit") {
		t.Errorf("%q", message)
	}
}

func TestTheIdleLimitCuts(t *testing.T) {
	w := newWorld(t, variant{limits: "idle: 1s"})
	c := w.connect()
	for _, sql := range []string{"select pg_sleep(1.5)", "select pg_sleep(0.5)", "select 1"} { // running is not idle
		run(t, c, sql)
	}
	run(t, c, "begin") // a transaction that does nothing is
	start := time.Now()
	deadlineIn(c.Conn(), 10*time.Second)
	var err error
	for err == nil {
		_, err = c.ReceiveMessage(t.Context())
	}
	if message := sqlstate(t, err, "57P05"); !strings.Contains(message, "idle_limit") {
		t.Errorf("%q", message)
	}
	if took := time.Since(start); took < 900*time.Millisecond || took > 3*time.Second {
		t.Errorf("after %s", took)
	}
	until(t, "the backend is gone", func() bool { return w.backends() == "0" })
}

func TestTheByteLimitCuts(t *testing.T) {
	for _, sql := range []string{
		"select repeat('x', 1000), generate_series(1, 100000)", "select repeat('x', 5000000)", "copy (select repeat('x', 1000), generate_series(1, 100000)) to stdout",
	} {
		w := newWorld(t, variant{limits: "bytes: 100000"})
		r := w.raw()
		if got := r.kindsOf(query("select repeat('x', 90000)")); got != "TDCZ" {
			t.Errorf("within the limit: %s", got)
		}
		r.send(query(sql))
		data := 0
		var last []byte
		for {
			f, err := r.in.next()
			if err != nil {
				break
			}
			if last = bytes.Clone(f.raw); f.kind == 'D' || f.kind == 'd' {
				data += len(f.body())
			}
		}
		if data > 10000 || !bytes.Contains(last, []byte("C53400\x00")) || !bytes.Contains(last, []byte("byte_limit")) {
			t.Errorf("%s: %d more bytes came, then %.200q", sql, data, last)
		}
	}
}

func (r *rawClient) kindsOf(message []byte) string {
	r.t.Helper()
	r.send(message)
	return r.kinds(1)
}

func TestTheSessionCountLimitRefuses(t *testing.T) {
	w := newWorld(t, variant{limits: "sessions: 3"})
	type outcome struct {
		conn *pgconn.PgConn
		err  error
	}
	results := make(chan outcome, 12)
	for range cap(results) { // all at once
		config := w.config()
		go func() {
			c, err := pgconn.ConnectConfig(t.Context(), config)
			results <- outcome{c, err}
		}()
	}
	var open []*pgconn.PgConn
	for range cap(results) {
		r := <-results
		if r.err == nil {
			open = append(open, r.conn)
			continue
		}
		var refused *pgconn.PgError
		if !errors.As(r.err, &refused) || refused.Code != "53300" || !strings.Contains(refused.Message, "session_count_limit") {
			t.Errorf("%v", r.err)
		}
	}
	if len(open) != 3 || w.backends() != "3" {
		t.Fatalf("%d sessions were let in, %s are at the target", len(open), w.backends())
	}
	open[0].Close(t.Context())
	until(t, "it has ended", func() bool { return w.ended() >= 10 })
	run(t, w.connect(), "select 1")
	for _, c := range open[1:] {
		c.Close(t.Context())
	}
}

func TestTheSessionLimitCuts(t *testing.T) {
	w := newWorld(t, variant{limits: "session: 1s"})
	_, err := try(t, w.connect(), "select pg_sleep(60)")
	if message := sqlstate(t, err, limitStates["session_limit"]); !strings.Contains(message, "session_limit") {
		t.Errorf("%q", message)
	}
	until(t, "the backend is gone", func() bool { return w.backends() == "0" })
}

// The runbook names the SQLSTATE of each limit.
func TestRunbookNamesTheStates(t *testing.T) {
	page, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for rule, state := range limitStates {
		if !strings.Contains(strings.ReplaceAll(string(page), "\n", " "), state+" `"+rule+"`") || seen[state] {
			t.Errorf("%s %s is not in docs/runbook.md, or not its own", state, rule)
		}
		seen[state] = true
	}
}
