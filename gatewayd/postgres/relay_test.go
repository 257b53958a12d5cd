package postgres

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

func TestCopyBothWays(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	var rows strings.Builder
	for i := 5000; i < 45000; i++ {
		fmt.Fprintf(&rows, "%d\t1\tcopied\n", i)
	}
	tag, err := c.CopyFrom(t.Context(), strings.NewReader(rows.String()), "copy app.orders from stdin")
	if err != nil || tag.RowsAffected() != 40000 {
		t.Fatalf("%v, %v", tag, err)
	}
	var out bytes.Buffer
	tag, err = c.CopyTo(t.Context(), &out, "copy (select id, customer, status from app.orders where id >= 5000 order by id) to stdout")
	if err != nil || tag.RowsAffected() != 40000 || out.String() != rows.String() {
		t.Fatalf("%v, %v, %d bytes of %d", tag, err, out.Len(), rows.Len())
	}
	if _, err = c.CopyFrom(t.Context(), strings.NewReader("not a number\n"), "copy app.orders from stdin"); err == nil {
		t.Error("a bad row was accepted")
	}
	_, err = c.CopyFrom(t.Context(), io.MultiReader(strings.NewReader("60000\t1\tx\n"), failingReader{}), "copy app.orders from stdin")
	sqlstate(t, err, "57014")
	if got := run(t, c, "select count(*) from app.orders where id >= 60000"); got != "0" {
		t.Errorf("%s rows of a failed COPY", got)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestCopyInAPipelineAndWithWrongMessages(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	// Data sent without waiting, Sync and Flush inside the COPY.
	r.send(parse("", "copy app.orders from stdin"), bind("", ""), execute(""), synced(), message('d', []byte("7001\t1\tx\n")), flushMessage,
		message('c', nil), synced(), query("select 1"))
	if got := r.kinds(2); got != "12GCZTDCZ" {
		t.Errorf("%s", got)
	}
	// A Query in the middle fails the COPY and is not run.
	r.send(query("copy app.orders from stdin"), message('d', []byte("7002\t1\tx\n")), query("delete from app.orders"))
	if got := r.kinds(1); got != "GEZ" {
		t.Errorf("%s", got)
	}
	r.send(query("copy app.orders from stdin; copy app.orders from stdin"), message('d', []byte("7003\t1\tx\n")), message('c', nil),
		message('d', []byte("7004\t1\tx\n")), message('c', nil))
	if got := r.kinds(1); got != "GCGCZ" {
		t.Errorf("%s", got)
	}
	if got := w.one("select string_agg(id::text, ' ' order by id) from app.orders where id > 7000"); got != "7001 7003 7004" {
		t.Errorf("rows %s", got)
	}
}

func TestLongValuesBothWays(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	long := strings.Repeat("0123456789abcdef", 5<<20/16)
	result := c.ExecParams(t.Context(), "insert into app.orders values (8000, 1, $1)", [][]byte{[]byte(long)}, nil, nil, nil).Read()
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	if got := run(t, c, "select status from app.orders where id = 8000"); got != long {
		t.Errorf("%d bytes came back", len(got))
	}
	if _, err := c.CopyFrom(t.Context(), strings.NewReader("8001\t1\t"+long+"\n"), "copy app.orders from stdin"); err != nil {
		t.Fatal(err)
	}
	if got := w.one("select length(status) from app.orders where id = 8001"); got != fmt.Sprint(len(long)) {
		t.Errorf("%s bytes arrived", got)
	}
}

func TestEmptyQueriesAndNotices(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	r.send(query(""), parse("", ""), bind("", ""), execute(""), synced())
	if got := r.kinds(2); got != "IZ12IZ" {
		t.Errorf("%s", got)
	}
}

func TestTheScopeFollowsTheTarget(t *testing.T) {
	w := newWorld(t, variant{})
	w.exec("create table public.orders (id int); grant select on public.orders to " + w.role)
	c := w.connect()
	count := func() string { return run(t, c, "select count(*) from orders") }
	if got := count(); got != "100" {
		t.Fatalf("the role's own search path was not read: %s rows", got)
	}
	run(t, c, "begin")
	run(t, c, "set local search_path = public")
	if _, err := try(t, c, "select count(*) from orders"); err == nil {
		t.Error("public.orders is not in the review, and was read")
	}
	run(t, c, "rollback")
	if got := count(); got != "100" {
		t.Errorf("behind the rollback: %s rows", got)
	}
	run(t, c, "create temp table orders as select 1 as id")
	if got := count(); got != "1" {
		t.Errorf("the temporary table: %s rows", got)
	}
	run(t, c, "drop table pg_temp.orders")
	if got := count(); got != "100" {
		t.Errorf("behind the drop: %s rows", got)
	}
}

func TestAPreparedStatementThatMeansSomethingElseIsPreparedAgain(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	if _, err := c.Prepare(t.Context(), "p", "select count(*) from orders", nil); err != nil {
		t.Fatal(err)
	}
	if r := c.ExecPrepared(t.Context(), "p", nil, nil, nil).Read(); r.Err != nil {
		t.Fatal(r.Err)
	}
	run(t, c, "create temp table orders as select 1 as id")
	r := c.ExecPrepared(t.Context(), "p", nil, nil, nil).Read()
	sqlstate(t, r.Err, "26000")
}

func TestPsql(t *testing.T) {
	w := newWorld(t, variant{})
	psql, err := peers.Psql(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(w.address, ":")
	out, err := psql.With("PGPASSWORD="+w.token(), "PGSSLMODE=require").Run(t.Context(), t.TempDir(),
		"-h", host, "-p", port, "-U", "agent:etl", "-d", "orders-db", "-X", "-A", "-t",
		"-c", "select status from app.orders where id = 1", "-c", `\d app.orders`)
	if err != nil || !strings.Contains(out, "open") || !strings.Contains(out, "customer") {
		t.Fatalf("%v: %s", err, out)
	}
}

// Masks.

const canaryMasks = "[{column: app.customers.email, with: email}, {column: app.customers.ssn, with: redact}]"

func TestMaskedColumnsNeverLeave(t *testing.T) {
	w := newWorld(t, variant{masks: canaryMasks})
	c := w.connect()
	check := func(how string, out string, err error) {
		t.Helper()
		if strings.Contains(out, "canary") || strings.Contains(out, "918-00") || err != nil && strings.Contains(fmt.Sprintf("%+v", err), "918-00") {
			t.Errorf("%s: %s %v", how, out, err)
		}
	}
	must := func(how string, out string, err error) {
		t.Helper()
		check(how, out, err)
		if err != nil || out == "" {
			t.Errorf("%s: refused or empty: %v", how, err)
		}
	}
	out, err := try(t, c, "select * from app.customers")
	must("simple", out, err)
	for _, format := range []int16{0, 1} {
		r := c.ExecParams(t.Context(), "select email, ssn from app.customers where id = $1", [][]byte{[]byte("3")}, nil, nil, []int16{format}).Read()
		must("extended", joined(r.Rows), r.Err)
	}
	var copied bytes.Buffer
	_, err = c.CopyTo(t.Context(), &copied, "copy (select * from app.customers) to stdout")
	must("COPY", copied.String(), err)
	run(t, c, "begin; declare cur cursor for select * from app.customers")
	out, err = try(t, c, "fetch all from cur")
	must("cursor", out, err)
	run(t, c, "rollback")
	run(t, c, "create temp table mine as select * from app.customers")
	out, err = try(t, c, "select * from mine")
	must("temporary table", out, err)
	for _, sql := range []string{
		"select ssn::int from app.customers", "insert into app.customers values (99, 'x', 'y', '918-00-3')",
		"select ssn from app.customers where ssn::int > 0", "do $$ begin raise notice '%', (select ssn from app.customers limit 1); end $$",
	} {
		out, err = try(t, c, sql)
		check(sql, out, err)
	}
	for _, s := range []string{"canary.example", "918-00"} {
		if strings.Contains(w.recorded(), s) {
			t.Errorf("the recording holds %s", s)
		}
	}
}

func TestErrorsOfAMaskedTableHoldNoText(t *testing.T) {
	w := newWorld(t, variant{masks: canaryMasks})
	_, err := try(t, w.connect(), "insert into app.customers values (99, 'x', 'y', '918-00-3')")
	var e *pgconn.PgError
	if !asPg(err, &e) {
		t.Fatal(err)
	}
	if e.Detail != "" || e.Where != "" || strings.Contains(e.Message, "918") {
		t.Errorf("%+v", e)
	}
}

func TestErrorPositionsCountInWhatTheClientSent(t *testing.T) {
	w := newWorld(t, variant{masks: canaryMasks})
	_, err := try(t, w.connect(), "select id, nosuch from app.orders")
	var e *pgconn.PgError
	if !asPg(err, &e) || e.Code == "42703" && e.Position != 12 {
		t.Errorf("%v at %d", err, e.Position)
	}
}

func TestDeeplyNestedStatementsAreRefused(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	deep := strings.Repeat("select * from (", 2000) + "select 1" + strings.Repeat(") x", 2000)
	_, err := try(t, c, deep)
	sqlstate(t, err, "42501")
	if got := run(t, c, "select 1"); got != "1" {
		t.Errorf("%q", got)
	}
}

// What is compared with a masked column is digested in a recording, also where the
// target repeats it: in a plan, in a definition, in a row.
func TestWhatMeetsMaskedColumnsIsNotInTheRecording(t *testing.T) {
	w := newWorld(t, variant{masks: canaryMasks})
	c := w.connect()
	for _, text := range []string{
		"explain select id from app.customers where email = 'sought-literal'",
		"explain (format json, verbose) select id from app.customers where email = 'sought-literal'",
		"prepare p(text) as select id from app.customers where email = $1; explain execute p('sought-literal')",
		"explain (verbose) select id, 'sought-literal' = email from app.customers",
	} {
		if out, err := try(t, c, text); err != nil || !strings.Contains(out, "sought-literal") {
			t.Errorf("%s: the client does not see its plan: %s, %v", text, out, err)
		}
	}
	r := c.ExecParams(t.Context(), "explain select id from app.customers where email = $1", [][]byte{[]byte("sought-literal")}, nil, nil, nil).Read()
	if r.Err != nil {
		t.Error(r.Err)
	}
	run(t, c, "prepare q as select id from app.customers where email = 'sought-literal'")
	run(t, c, "begin; declare cur cursor for select id from app.customers where email = 'sought-literal'")
	for _, text := range []string{"select * from pg_prepared_statements", "select statement from pg_catalog.pg_cursors", "table pg_cursors"} {
		if out, err := try(t, c, text); err != nil || !strings.Contains(out, "sought-literal") {
			t.Errorf("%s: the client does not see its own statement: %s, %v", text, out, err)
		}
	}
	run(t, c, "commit")
	for _, text := range []string{
		"create temp view own as select id from app.customers where email = 'sought-literal'", "select pg_get_viewdef('own'::regclass)", "select definition from pg_views where viewname = 'own'",
	} {
		if out, err := try(t, c, text); err != nil || strings.HasPrefix(text, "select") && !strings.Contains(out, "sought-literal") {
			t.Errorf("%s: the client does not see its own definition: %s, %v", text, out, err)
		}
	}
	r = c.ExecParams(t.Context(), "select id, $1::text from app.customers where email = $1", [][]byte{[]byte("sought-literal")}, nil, nil, nil).Read()
	if r.Err != nil {
		t.Error(r.Err)
	}
	run(t, c, "select 'harmless-literal'")
	c.Close(t.Context())
	until(t, "the session has ended", func() bool { return w.ended() == 1 })
	recorded := w.recorded()
	if strings.Contains(recorded, "sought-literal") {
		t.Error("the recording holds the literal")
	}
	if !strings.Contains(recorded, "harmless-literal") || !strings.Contains(recorded, "a line of a plan") {
		t.Error("the recording does not hold what it should")
	}
}
