package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// racedSchema is what others change while statements are on their way. Every secret holds "canary".
var racedSchema = []string{`
create schema app; create schema other;
create table app.people (id int primary key, note text, name text, ssn text, city text);
insert into app.people values (1, 'a note', 'Ann', 'canary-1', 'Delft');
create table app.people2 (id int primary key, name text, ssn text, email text);
insert into app.people2 values (1, 'Bob', 'canary-2', 'canary-3');
create table app.orders (id int primary key, status text, note text);
insert into app.orders values (1, 'open', 'x');
create view app.names as select id, name from app.people;
create view app.states as select id, status from app.orders;
create view app.deep as select id, status from app.states;
create table app.parted (id int, v text) partition by range (id);
create table app.parted1 partition of app.parted for values from (0) to (10);
insert into app.parted values (1, 'plain')`}

const racedMasks = `[{column: app.people.ssn, with: redact}, {column: app.people2.ssn, with: last4}, {column: app.people2.email, with: redact}]`

// races are changes that no binding of columns by position catches, with statements that would show a secret.
var races = map[string]struct{ change, texts string }{
	"a table takes another's name": {
		`alter table app.orders rename to orders_was; alter table app.people rename to orders; alter table app.orders rename ssn to status; alter table app.orders rename note to n; alter table app.orders rename city to note`,
		`select status from app.orders where id = 1;; select * from app.orders;; select upper(status) || '' from app.orders;; select o.id from app.orders o where o.status like 'canary%';;
		select count(*) from app.orders where status = 'canary-1';; select (select max(status) from app.orders);; select o from app.orders o;; select 'x' || o.status from app.orders o order by 1;;
		with q as (select status from app.orders) select * from q;; table app.orders;; select status from app.orders union all select 'y' where exists (table app.orders);; copy app.orders to stdout;; copy (select status from app.orders) to stdout;;
		update app.orders set note = 'y' where id = 1 returning status;; update app.orders set note = 'y' where status = 'canary-1';; delete from app.orders returning *;; insert into app.orders (id) values (1) on conflict (id) do update set note = 'z' returning status;;
		create temp table t as select status from app.orders;; explain (analyze, costs off) select id from app.orders where status = 'canary-1';; merge into app.orders o using (values (1)) v (id) on o.id = v.id and o.status = 'canary-1' when matched then update set note = 'm';;
		select id from app.orders where status = 'canary-1' for update;; select a.id from app.orders a join app.orders b on a.status = b.status and a.id <> 7 where a.status > 'a' group by a.id having max(b.status) like 'canary%';; insert into app.parted select id, status from app.orders returning v`},
	"two masked tables of other shapes change places": {
		`alter table app.people rename to p; alter table app.people2 rename to people; alter table app.p rename to people2`,
		`select * from app.people;; select id, note, name, city from app.people;; select name || '' from app.people;; select row_to_json(p) from app.people p;; select ssn, city from app.people where note is not null;; select min(ssn), min(name) from app.people2;; copy app.people to stdout;;
		select id from app.people where name = 'canary-2'`},
	"a column is dropped and one added": {
		`alter table app.people drop note cascade; alter table app.people add extra text`,
		`select name from app.people;; select upper(name) from app.people;; select id, name, ssn, city from app.people where id = 1;; select * from app.people;; select max(name) from app.people;; select id from app.people where name like 'canary%';; select count(*) filter (where name > 'c') from app.people;;
		update app.people set city = 'x' where id = 1 returning name;; update app.people set city = name where id = 1 returning city;; update app.people set city = 'x' where name = 'canary-1';; delete from app.people where id = 1 returning *;; insert into app.people (id) values (1) on conflict (id) do update set city = 'z' returning name;;
		select p.id from app.people p, app.orders o where p.id = o.id and p.name like 'canary%';; copy app.people (id, name) to stdout;; select (select p.name) from app.people p;; explain (analyze, costs off) select id from app.people where name = 'canary-1';;
		merge into app.people p using app.orders o on o.id = p.id when matched and p.name like 'canary%' then update set city = 'm'`},
	"a masked column takes another's name": {
		`alter table app.people rename name to was; alter table app.people rename ssn to name; alter table app.people rename was to ssn`,
		`select name from app.people;; select id from app.people where name like 'canary%';; update app.people set city = 'x' where name = 'canary-1';; update app.people set city = 'y' where id = 1 returning name;; delete from app.people where name like 'canary%' returning id;;
		merge into app.people p using app.orders o on o.id = p.id and p.name like 'canary%' when matched then update set city = 'm';; insert into app.people (id) values (1) on conflict (id) do update set city = people.name where people.name like 'canary%' returning city;; select concat(name, city) from app.people`},
	"a view is replaced": {
		`create or replace view app.states as select id, ssn as status from app.people`,
		`select status from app.states;; select upper(status) from app.states;; select * from app.deep;; select id from app.deep where status like 'canary%';; select count(*) from app.states where status = 'canary-1';; table app.states;; copy (select * from app.deep) to stdout;;
		select o.id from app.orders o left join app.states s on s.id = o.id where s.status like 'canary%';; create temp table t as table app.states`},
	"a masked view is replaced": {
		`create or replace view app.names as select id, ssn as name from app.people`,
		`select name from app.names;; select * from app.names;; select max(name) from app.names;; select id from app.names where name like 'canary%';; select n from app.names n`},
	"a schema takes another's name": {
		`alter schema app rename to was; alter schema other rename to app; create table app.orders (id int primary key, status text, note text); insert into app.orders select id, ssn, 'x' from was.people`,
		`select upper(status) from app.orders;; select status from app.orders`},
}

// TestRacesWithOthers changes the schema between the gateway's look at it and the
// statement: no secret may show, in rows or by whether there are rows.
func TestRacesWithOthers(t *testing.T) {
	defer func(was time.Duration) { lookEvery = was }(lookEvery)
	lookEvery = time.Hour
	t.Run("all", func(t *testing.T) {
		onEach(t, []int{15, 18}, func(t *testing.T, target *peers.PostgresServer) {
			for name, race := range races {
				t.Run(name, func(t *testing.T) {
					w := newWorld(t, variant{target: target, schema: racedSchema, masks: racedMasks, verbs: strings.Join(everyVerb, ", "), on: `"app.*"`, superuser: true, privileged: true})
					for text := range strings.SplitSeq(race.texts, ";;") {
						text = strings.TrimSpace(text)
						w.before(t, text)
						for _, how := range [][2]string{{"simple", ""}, {"extended", ""}, {"prepared", ""}, {"simple", "repeatable read"}, {"prepared", "repeatable read"}, {"simple", "read committed"}} {
							w.race(t, race.change, text, how[1], how[0])
						}
					}
				})
			}
		})
	})
}

// before sends a text while nobody changes anything: it runs, and shows no secret.
func (w *world) before(t *testing.T, text string) {
	t.Helper()
	conn := w.connect()
	defer conn.Close(t.Context())
	send := "begin; " + text + "; rollback"
	if strings.HasPrefix(text, "copy") {
		send = text
	}
	results, err := conn.Exec(t.Context(), send).ReadAll()
	if err != nil {
		t.Errorf("%s\n  does not run: %v", text, err)
	}
	for _, r := range results {
		if got, _ := rowsOf(r); strings.Contains(got, "canary-") && !strings.Contains(text, "explain") { // a plan repeats the statement
			t.Errorf("%s\n  shows %q before", text, got)
		}
	}
}

// race sends a text before and after a change, which is undone afterwards.
func (w *world) race(t *testing.T, change, text, isolation, form string) {
	t.Helper()
	if form != "simple" && strings.HasPrefix(text, "copy") {
		return
	}
	what := text + "\n  " + form + " in " + isolation
	conn := w.connect()
	defer conn.Close(t.Context())
	do := func(sql string) {
		if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %s: %v", what, sql, err)
		}
	}
	send := func() (string, error) {
		switch form {
		case "extended":
			return rowsOf(conn.ExecParams(t.Context(), text, nil, nil, nil, nil).Read())
		case "prepared":
			return rowsOf(conn.ExecPrepared(t.Context(), "p", nil, nil, nil).Read())
		}
		if strings.HasPrefix(text, "copy") {
			var b strings.Builder
			_, err := conn.CopyTo(t.Context(), &b, text)
			return b.String(), err
		}
		results, err := conn.Exec(t.Context(), text).ReadAll()
		if err != nil || len(results) != 1 {
			return "", err
		}
		return rowsOf(results[0])
	}
	do("select count(*) from app.orders") // the look
	if form == "prepared" {
		if _, err := conn.Prepare(t.Context(), "p", text, nil); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if isolation != "" {
		do("begin isolation level " + isolation + "; select 1") // the snapshot is of now
	}
	others, err := peers.Connect(t.Context(), w.target.SuperuserDSN(w.database))
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close(t.Context())
	if _, err := others.Exec(t.Context(), "set lock_timeout = '5s'; set search_path = pg_catalog; "+change).ReadAll(); err != nil {
		t.Fatalf("%s: %s: %v", what, change, err)
	}
	got, problem := send()
	if strings.Contains(strings.ToLower(got), "canary") && !strings.Contains(text, "explain") {
		t.Errorf("%s\n  shows %q", what, got)
	}
	if problem == nil && (strings.Contains(text, "'canary") || strings.Contains(text, "like")) && strings.Contains(got, "1") {
		t.Errorf("%s\n  tells by %q", what, got)
	}
	if problem != nil && strings.Contains(problem.Error(), "canary") {
		t.Errorf("%s\n  says %v", what, problem)
	}
	conn.Close(t.Context())
	w.renew(t, others)
}

// renew makes the raced schema anew.
func (w *world) renew(t *testing.T, others *pgconn.PgConn) {
	t.Helper()
	sql := "set search_path = pg_catalog; drop schema if exists app cascade; drop schema if exists other cascade; drop schema if exists was cascade;" + racedSchema[0]
	if _, err := others.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

func rowsOf(r *pgconn.Result) (string, error) {
	var b strings.Builder
	for _, row := range r.Rows {
		for _, v := range row {
			b.Write(v)
			b.WriteByte('|')
		}
	}
	return b.String() + r.CommandTag.String(), r.Err
}
