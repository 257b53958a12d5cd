package sqlguard

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// canary is part of every value of a masked text column; the numbers are those of masked number columns.
const canary = "Zq7Canary"

var canaryNumbers = []string{"918273", "8675309"}

var worldSchema = []string{
	`create schema app`, `create schema other`,
	`create type app.mood as enum ('calm', 'tense')`,
	`create domain app.address as text check (value ~ '@')`,
	`create table app.customers (
		id int primary key, name text not null, email app.address unique, ssn varchar(20), salary int, balance numeric(10,2),
		born date, token uuid, mood app.mood, notes jsonb, tags text[], country text default 'nl')`,
	`insert into app.customers values
		(1, 'Ann', 'Zq7CanaryAnn@example.test', 'Zq7Canary-111', 918273, 918273.25, '1918-02-03', '91827391-8273-9182-7391-827391827391', 'tense', '{"k":"Zq7CanaryJson"}', '{Zq7CanaryTag}', 'nl'),
		(2, 'Bob', 'Zq7CanaryBob@example.test', 'Zq7Canary-222', 8675309, 8675309.50, '1918-02-04', '91827391-8273-9182-7391-827391827392', 'calm', '{"k":"Zq7CanaryJson2"}', '{Zq7CanaryTag2}', 'be')`,
	`create table app.orders (id int primary key, customer int references app.customers, total numeric default 0, status text default 'new', note text)`,
	`insert into app.orders values (10, 1, 5.5, 'new', 'n1'), (11, 2, 7.5, 'paid', 'n2')`,
	`create table app.scratch (id int primary key, v text, n bigint)`,
	`create table app.events (id int, at date not null, secret text, info text, primary key (id, at)) partition by range (at)`,
	`create table app.events_2026 partition of app.events for values from ('2026-01-01') to ('2027-01-01')`,
	`insert into app.events values (1, '2026-05-05', 'Zq7CanaryEvent', 'fine')`,
	`create table app.parent (id int, hidden text)`,
	`create table app.child (extra text) inherits (app.parent)`,
	`insert into app.child values (1, 'Zq7CanaryChild', 'x')`,
	`create view app.customer_view as select id, name, email from app.customers`,
	`create view app.customer_view2 as select name from app.customer_view`,
	`create view app.order_view as select id, total from app.orders`,
	`create materialized view app.customer_mat as select id, ssn from app.customers`,
	`create function app.leak(app.orders) returns text language sql as 'select string_agg(email, '','') from app.customers'`,
	`create function app.leak_any(anyelement) returns text language sql as 'select string_agg(ssn, '','') from app.customers'`,
	`create function app.lower(varchar) returns text language sql as 'select string_agg(ssn, '','') from app.customers'`,
	`create function app.reveal(int) returns text language sql as 'select email::text from app.customers where id = $1'`,
	`create function app.reveal2(int, int) returns text language sql as 'select email::text from app.customers where id = $1'`,
	`create operator app.## (leftarg = int, rightarg = int, function = app.reveal2)`,
	`create view app.leaky_view as select app.reveal(1) as r`,
	`create function app.fire() returns trigger language plpgsql as 'begin raise notice ''%'', new.email; return new; end'`,
	`create trigger noisy before update on app.customers for each row execute function app.fire()`,
	`create table app.ruled (id int)`,
	`create rule r as on insert to app.ruled do also select * from app.customers`,
	`create table other.customers (id int, email text)`,
	`insert into other.customers values (1, 'public@example.test')`,
	`create sequence app.seq`,
	`create function app.listed(int) returns int language sql as 'select $1 + 1'`,
	`create function public.email(app.orders) returns text language sql as 'select string_agg(ssn, '','') from app.customers'`,
	`create table app."Odd Name" (id int primary key, "Se cret" text, "q""x" text)`,
	`insert into app."Odd Name" values (1, 'Zq7CanaryOdd', 'ok')`,
	`create table app.generated (id int, pin text, twice text generated always as (pin || pin) stored, free text generated always as (id::text) stored)`,
	`insert into app.generated (id, pin) values (1, 'Zq7CanaryPin')`,
	`create table app.measures (at date, v int) partition by range (at)`,
	`create table app.measures_2026 partition of app.measures for values from ('2026-01-01') to ('2027-01-01')`,
	`create view app.joined_view as select c.id, c.email, o.total from app.customers c join app.orders o on o.customer = c.id`,
	`create view app.wide_view as select * from app.customers`,
	`create view app.paid_view as select id, name from app.customers where salary > 1000`,
	`create view app.upper_view as select id, upper(email::text) as shout, salary::text as pay from app.customers`,
	`create view app.union_view as select ssn as v from app.customers union select status from app.orders`,
	`create view app.deep_view as select v.id, v.email, u.shout from app.customer_view v join app.upper_view u using (id)`,
	`create view app.barrier_view with (security_barrier) as select id, email, ssn from app.customers where country = 'nl'`,
	`create view app.with_view as with x as (select id, ssn from app.customers) select id, ssn from x`,
	`create materialized view app.customer_agg as select country, count(*) as n, sum(salary) as pay from app.customers group by country`,
	`create materialized view app.ssn_mat as select ssn, count(*) from app.customers group by ssn`,
	`create materialized view app.order_mat as select id, total from app.orders`,
	`create view app.mat_view as select m.id, m.ssn from app.customer_mat m`,
	`analyze`,
}

var worldMasks = []Mask{
	{Column: "app.customers.email", With: "email"}, {Column: "app.customers.ssn", With: "redact"}, {Column: "app.customers.salary", With: "redact"}, {Column: "app.customers.balance", With: "null"},
	{Column: "app.customers.born", With: "redact"}, {Column: "app.customers.token", With: "redact"}, {Column: "app.customers.notes", With: "redact"}, {Column: "app.customers.tags", With: "redact"},
	{Column: "app.events.secret", With: "first"}, {Column: "app.parent.hidden", With: "redact"}, {Column: "app.Odd Name.Se cret", With: "redact"},
	{Column: "app.generated.pin", With: "null"}, {Column: "app.generated.twice", With: "null"},
}

// world is a real database with canaries in masked columns, and a guard of it.
type world struct {
	conn    *pgconn.PgConn
	config  *pgconn.Config
	catalog *Catalog
	guard   *Guard
	notices []string
	scope   Scope
	masks   []Mask
	// position is where the last error of answer pointed to, 0 for nowhere.
	position int
}

func newWorld(t testing.TB, masks []Mask) *world {
	t.Helper()
	ctx := context.Background()
	server := peers.SharedPostgres(t)
	name := server.NewDatabase(t, worldSchema...)
	config, err := pgconn.ParseConfig(server.SuperuserDSN(name))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{config: config}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		w.notices = append(w.notices, n.Message+"|"+n.Detail+"|"+n.Hint+"|"+n.Where)
	}
	if w.conn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close(ctx) })
	w.catalog = w.pull(t)
	w.masks = masks
	w.guardAgain(t)
	w.reset(t)
	return w
}

// guardAgain makes the guard of the catalog that was pulled last.
func (w *world) guardAgain(t testing.TB) {
	t.Helper()
	var err error
	if w.guard, err = New(w.catalog, Options{Masks: w.masks, Functions: []string{"app.listed"}, Digest: func(string) string { return "hmac:x" }}); err != nil {
		t.Fatal(err)
	}
}

// corpus reads the lines of a file of testdata; those that start with "--" are comments.
func corpus(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "--")
	})
}

func (w *world) pull(t testing.TB) *Catalog {
	t.Helper()
	raw, _, err := w.exec("set search_path = pg_catalog; " + PullQuery)
	if err != nil {
		t.Fatalf("pull: %v", err)
	}
	c, err := ParseCatalog(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exec runs a text as a simple query and returns the bytes of all rows.
func (w *world) exec(text string) (rows, columns []byte, err error) {
	results := w.conn.Exec(context.Background(), text)
	var out, names bytes.Buffer
	for results.NextResult() {
		r := results.ResultReader()
		for _, f := range r.FieldDescriptions() {
			names.WriteString(f.Name + " ")
		}
		for r.NextRow() {
			for _, v := range r.Values() {
				out.Write(v)
				out.WriteByte('\n')
			}
		}
		tag, _ := r.Close()
		names.WriteString(tag.String() + "\n")
	}
	return bytes.TrimSpace(out.Bytes()), names.Bytes(), results.Close()
}

// reset puts the session back to a known state.
func (w *world) reset(t testing.TB) {
	t.Helper()
	if w.conn.TxStatus() != 'I' {
		_, _, _ = w.exec("rollback")
	}
	for _, text := range []string{"discard all", "set search_path = app, public", "set sallyport.scope = 'test'"} {
		if _, _, err := w.exec(text); err != nil {
			t.Fatal(err)
		}
	}
	w.notices = nil
	w.scope = Scope{SearchPath: []string{"app", "public"}, Prepared: map[string]PreparedEffects{}}
}

// send runs one text through the guard, as an engine would, and returns
// everything that a client would see of it.
func (w *world) send(text string) (seen string, refusal string, err error) {
	st := w.guard.Understand(text, w.scope)
	if st.Command.Refusal != nil {
		return st.Command.Refusal.Reason, st.Command.Refusal.Rule, nil
	}
	w.notices = nil
	var rows, names []byte
	if st.Parts[0].Kind == KindCopyOut {
		var out bytes.Buffer
		_, err = w.conn.CopyTo(context.Background(), &out, st.Rewritten)
		rows = out.Bytes()
	} else {
		rows, names, err = w.exec(st.Rewritten)
	}
	seen = string(rows) + "\n" + string(names)
	if !st.ScrubErrors {
		seen += strings.Join(w.notices, "\n")
		if err != nil {
			var pg *pgconn.PgError
			seen += fmt.Sprintf("%v", err)
			if ok := asPgError(err, &pg); ok {
				seen += pg.Detail + pg.Hint + pg.Where
			}
		}
	}
	if err == nil {
		w.track(st.Parts)
	}
	return seen, "", err
}

func asPgError(err error, into **pgconn.PgError) bool {
	pg, ok := err.(*pgconn.PgError)
	*into = pg
	return ok
}

func (w *world) track(parts []Part) {
	for _, p := range parts {
		switch {
		case p.Kind == KindSet && p.Name == "search_path" && !p.Reset:
			w.scope.SearchPath = p.SearchPath
		case p.Kind == KindPrepare:
			w.scope.Prepared[p.Name] = *p.Prepared
		}
		if p.Temp != nil {
			w.scope.Temp = append(w.scope.Temp, *p.Temp)
		}
		w.scope.Temp = slices.DeleteFunc(w.scope.Temp, func(t TempRelation) bool { return slices.Contains(p.DropsTemp, t.Name) })
	}
}

// canaryForms are the canaries in the forms that SQL can give them.
var canaryForms = func() []string {
	forms := []string{canary[3:], canary[:5], "e0301", "1918-02-0", "1918203"}
	for _, f := range []string{canary, strings.ToLower(canary), strings.ToUpper(canary)} {
		reversed := []byte(f)
		slices.Reverse(reversed)
		forms = append(forms, f, string(reversed), string(reversed[:6]), hex.EncodeToString([]byte(f)), hex.EncodeToString([]byte(f[3:])))
		for _, before := range []string{"", "x", "xx"} { // base64 at each alignment, without the letters that others share
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(before + f))[4:10])
		}
	}
	for _, value := range []string{"Zq7CanaryAnn@example.test", "Zq7CanaryBob@example.test", "Zq7Canary-111", "Zq7Canary-222"} {
		sum := md5.Sum([]byte(value)) // as SQL's md5() has it
		forms = append(forms, hex.EncodeToString(sum[:]))
	}
	return append(forms, canaryNumbers...)
}()

// leaks says which canary a text holds.
func leaks(seen string) string {
	flat := strings.NewReplacer("\n", "", " ", "", ",", "", "|", "").Replace(seen)
	for _, f := range canaryForms {
		if strings.Contains(seen, f) || strings.Contains(flat, f) {
			return f
		}
	}
	return ""
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}
