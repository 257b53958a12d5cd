package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

const hardenSchema = `
create table app.serials (id serial primary key, v text);
create view app.plain as select id, name, email, ssn from app.customers;
create view app.computed as select id, upper(email) as loud, length(ssn) as n from app.customers;
create table app.events (id int, at date, secret text, info text) partition by range (at);
create table app.events_2026 partition of app.events for values from ('2026-01-01') to ('2027-01-01');
insert into app.events values (1, '2026-05-05', 'canary-event', 'fine');
create table app.other (id int, v text);
create function app.twice(int) returns int language sql as 'select 2 * $1';
create table vault.more (v text); insert into vault.more values ('canary-vault');
`

// A role made by Harden is enough for the gateway, and for hardly anything else.
func TestHarden(t *testing.T) {
	for _, major := range []int{15, 18} {
		t.Run(map[int]string{15: "15", 18: "18"}[major], func(t *testing.T) { harden(t, peers.SharedPostgresMajor(t, major)) })
	}
}

func harden(t *testing.T, target *peers.PostgresServer) {
	c := variant{target: target, connection: "  functions: [app.twice]\n  hashFunction: keys.hash\n",
		masks: "[{column: app.customers.email, with: email}, {column: app.customers.ssn, with: redact}, {column: app.events.secret, with: \"null\"}, {column: app.orders.status, with: hash}]"}
	w := newWorld(t, c)
	w.exec(hardenSchema)
	w.exec("create role " + w.role + "_all; grant select on all tables in schema app, vault to " + w.role + "_all; grant " + w.role + "_all, pg_read_all_data, pg_signal_backend to " + w.role)
	catalog := w.catalog()
	w.file(reviews.CatalogPath("orders-db"), catalog)
	w.write("reviews/orders-db/etl.yaml", reviews.KindReview, "orders-db/etl", `  sequence: 2
  requester: user:alice
  subject: agent:etl
  connection: orders-db
  allow:
    - {verbs: [select], on: [app.customers, app.orders, app.plain, app.computed, app.events, app.events_2026, app.serials]}
    - {verbs: [update], on: [app.orders], columns: [customer]}
    - {verbs: [insert, delete], on: [app.serials]}
    - {verbs: [update], on: [app.serials_id_seq]}
    - {verbs: [lock], on: [app.orders]}
    - {verbs: [create], on: ["pg_temp.*"]}
    - {verbs: [drop], on: [app.serials]}
  limits: {statement: 20s}
  validity: {notBefore: "`+stamp(-1)+`", expires: "`+stamp(1)+`"}
  justification: {reason: test}
`)
	tree, err := reviews.Load(w.files, reviews.LoadOptions{Now: time.Now()})
	if err != nil || len(tree.Problems) > 0 {
		t.Fatal(err, tree.Problems)
	}
	doc, given := tree.Connections["orders-db"], []*reviews.Review{tree.Reviews["orders-db/etl"]}
	sql, err := Harden(doc, given)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Harden(doc, given); again != sql || err != nil {
		t.Error("the text differs from one time to the next", err)
	}
	for range 2 {
		w.exec(sql)
	}
	w.file(reviews.CatalogPath("orders-db"), w.catalog()) // with the function of hashes
	w.gateway.Swap(w.release())
	t.Run("through the gateway", func(t *testing.T) { hardenAllowed(t, w) })
	t.Run("around it", func(t *testing.T) { hardenEvasions(t, w) })
	t.Run("what is left", func(t *testing.T) {
		for _, gap := range []string{"grant select on app.customers to public", "alter table app.other owner to " + w.role, "grant create on schema app to public", "grant select (ssn) on app.customers to public"} {
			w.exec(gap)
			if err := w.target.Exec(t.Context(), w.database, sql); err == nil || !strings.Contains(err.Error(), "can do more than is granted here") {
				t.Errorf("%s: %v", gap, err)
			}
			w.exec("revoke all on app.customers from public; revoke select (ssn) on app.customers from public; alter table app.other owner to current_user; revoke create on schema app from public")
		}
		w.exec(sql)
	})
}

func stamp(hours int) string {
	return time.Now().Add(time.Duration(hours) * time.Hour).UTC().Format("2006-01-02T15:04:05Z")
}

func hardenAllowed(t *testing.T, w *world) {
	a := w.connect()
	hash := run(t, a, "select status from app.orders where id = 1")
	if len(hash) != 32 || run(t, w.connect(), "select status from app.orders where id = 1") != hash {
		t.Errorf("stable hashes: %q", hash)
	}
	for sql, want := range map[string]string{
		"select id, name, email, ssn from app.customers where id = 1": "1|name 1|m***@***|****", "select * from app.customers order by id limit 1": "1|name 1|m***@***|****", "select count(*) from app.customers": "20",
		"select * from app.plain where id = 2": "2|name 2|m***@***|****", "select loud, n from app.computed where id = 2": "M***@***|4", "select * from app.events": "1|2026-05-05||fine", "select info from app.events_2026": "fine",
		"select count(*) from app.customers c join app.orders o on o.customer = c.id": "100", "update app.orders set customer = 3 where id = 1": "", "insert into app.serials (v) values ('x') returning v": "x", "delete from app.serials where id = 1": "",
		"select nextval('app.serials_id_seq') > 0": "t", "select id from app.orders where id = 1 for update": "1", "create temp table mine as select id, ssn from app.customers; select max(ssn) from mine": "****", "select app.twice(4)": "8",
		"select app.twice(id) from app.customers order by id limit 1": "2", "select relname from pg_class where relname = 'customers'": "customers", "explain (costs off) select id from app.serials where id = 1": "",
		"begin; select ssn from app.customers where id = 1; commit": "", "select ssn, count(*) from app.customers group by ssn": "****|20",
	} {
		got, err := try(t, a, sql)
		if err != nil || want != "" && got != want {
			t.Errorf("%s: %q, want %q: %v", sql, got, want, err)
		}
	}
	var copied strings.Builder
	if _, err := a.CopyTo(t.Context(), &copied, "copy app.customers to stdout"); err != nil || strings.Contains(copied.String(), "918-00") {
		t.Error(copied.String(), err)
	}
}

// hardenEvasions goes around the gateway with the role's own password.
func hardenEvasions(t *testing.T, w *world) {
	config, err := pgconn.ParseConfig(w.target.DSN(w.database, w.role, w.secret))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if got := run(t, conn, "select id from app.customers where id = 1"); got != "1" {
		t.Fatal("the direct connection does not work:", got)
	}
	for _, sql := range []string{
		"select ssn from app.customers", "select * from app.customers", "select c from app.customers c", "select count(ssn) from app.customers", "select id from app.customers where ssn like '9%'", "select id from app.customers order by ssn",
		"select row_to_json(c) from app.customers c", "table app.customers", "copy app.customers to stdout", "copy app.customers (ssn) to stdout", "select secret from app.events", "select secret from app.events_2026", "select ctid from app.customers",
		"select ssn from app.plain", "select n from app.computed", "update app.customers set name = ssn", "update app.orders set status = 'x'", "delete from app.orders", "insert into app.customers values (99, 'x', 'x', 'x')", "truncate app.serials",
		"insert into app.customers (id, name, ssn) values (99, 'x', '918-00-1') on conflict (ssn) do nothing", "select * from vault.keys", "select * from vault.more", "select * from app.other", "select query_to_xml('select 1', true, true, '')",
		"select table_to_xml('app.orders', true, true, '')", "select database_to_xml(true, true, '')", "select * from ts_stat('select to_tsvector(name) from app.customers')", "select lo_from_bytea(0, 'x')", "select lo_create(0)",
		"select pg_cancel_backend(pg_backend_pid())", "select pg_terminate_backend(pid) from pg_stat_activity", "select pg_logical_emit_message(true, 'a', 'b')", "select pg_read_file('PG_VERSION')", "copy (select 1) to program 'true'", "copy app.serials from '/etc/passwd'",
		"create table app.mine (id int)", "create schema mine", "create function app.f() returns int language sql as 'select 1'", "create view app.v as select 1", "set role " + w.role + "_all", "set role pg_read_all_data", "set session authorization postgres", "select * from pg_authid", "select * from pg_statistic",
		"create trigger t before update on app.orders for each row execute function suppress_redundant_updates_trigger()", "alter table app.orders add x int", "create index on app.orders (status)", "select key from keys.hash_key", "update keys.hash_key set key = 'x'", "drop function keys.hash(text)",
		"create or replace function keys.hash(value text) returns text language sql as 'select $1'", "alter role " + w.role + " superuser", "alter system set work_mem = '1MB'", "drop table app.serials", "select * from pg_user_mapping", "create extension dblink",
	} {
		out, err := try(t, conn, sql)
		if err == nil {
			t.Errorf("%s: %q", sql, out)
			continue
		}
		if strings.Contains(err.Error(), "918-00") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for sql, want := range map[string]string{
		"select count(*) from pg_stats where attname in ('ssn', 'secret')": "0", "show statement_timeout": "25s", "show standard_conforming_strings": "on", "show row_security": "on",
		"select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls from pg_roles where rolname = current_user": "f",
	} {
		if got := run(t, conn, sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}
