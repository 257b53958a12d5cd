package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/reviews"
)

// again makes the documents anew and a release of them.
func (w *world) again(c variant, change func()) {
	w.t.Helper()
	change()
	w.gateway.Swap(w.release())
}

// catalog is what PullCatalog says of the target now.
func (w *world) catalog() []byte {
	w.t.Helper()
	tree, err := reviews.Load(w.files, reviews.LoadOptions{Now: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := PullCatalog(w.t.Context(), tree.Connections["orders-db"], credential.NewSecret(w.secret))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// The key of a session's hashes is its own and nobody's to read.
func TestHashesOfSessionsDiffer(t *testing.T) {
	w := newWorld(t, variant{masks: "[{column: app.customers.email, with: hash}, {column: app.customers.ssn, with: hash}]"})
	a, b := w.connect(), w.connect()
	ask := "select email from app.customers where id = 7"
	first := run(t, a, ask)
	if len(first) != 32 || first == run(t, b, ask) || first != run(t, a, ask) {
		t.Fatalf("hashes %q, %q", first, run(t, b, ask))
	}
	for _, sql := range []string{"discard all", "reset all", "set role none"} {
		try(t, a, sql)
	}
	if got := run(t, a, ask); got != first {
		t.Errorf("after DISCARD ALL and RESET ALL: %q, before %q", got, first)
	}
	for _, sql := range []string{
		"show sallyport.hash_key", "select current_setting('sallyport.hash_key')", "set sallyport.hash_key = '0'", "select set_config('sallyport.hash_key', repeat('0', 64), false)", "reset sallyport.hash_key",
		"update app.customers set email = 'guess' where id = 1", "insert into app.customers values (77, 'x', 'guess', 'guess')",
	} {
		_, err := try(t, a, sql)
		sqlstate(t, err, "42501")
	}
	for _, sql := range []string{"select name, setting from pg_settings", "show all", "select * from pg_prepared_statements", "select * from pg_stat_activity", "explain (verbose) select email, ssn from app.customers", "select * from pg_db_role_setting",
		"select current_setting(n, true) from (values ('sallyport.hash_key')) v(n)"} {
		out := run(t, a, sql)
		if strings.Contains(out, "canary.example") || containsHex64(out) {
			t.Errorf("%s shows %q", sql, out)
		}
	}
	c := w.config()
	c.RuntimeParams["sallyport.hash_key"] = strings.Repeat("0", 64)
	if _, err := pgconn.ConnectConfig(t.Context(), c); err == nil {
		t.Error("a client may choose the key")
	}
	if containsHex64(strings.ReplaceAll(w.recorded(), first, "")) && strings.Contains(w.recorded(), "hash_key") {
		t.Log("recordings name the setting, not its value")
	}
}

// containsHex64 says whether a text has 64 hex digits in a row, as a key has.
func containsHex64(s string) bool {
	n := 0
	for _, c := range s {
		if strings.ContainsRune("0123456789abcdef", c) {
			if n++; n == 64 {
				return true
			}
		} else {
			n = 0
		}
	}
	return false
}

// A review's lookups are counted, over its sessions and in every protocol.
func TestLookupsAreCounted(t *testing.T) {
	w := newWorld(t, variant{masks: "[{column: app.customers.email, with: email}, {column: app.customers.ssn, with: redact, lookup: true}]", limits: "lookups: 6",
		reviewMasks: "[{column: app.customers.email, with: email, lookup: true}]"})
	a := w.connect()
	if got := run(t, a, "select id, email from app.customers where email = 'mail3@canary.example'"); got != "3|m***@***" {
		t.Fatal(got)
	}
	prepared, err := a.Prepare(t.Context(), "find", "select id from app.customers where ssn = $1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, ssn := range []string{"918-00-4", "918-00-44"} {
		r := a.ExecPrepared(t.Context(), prepared.Name, [][]byte{[]byte(ssn)}, nil, nil).Read()
		if r.Err != nil || len(r.Rows) != map[string]int{"918-00-4": 1, "918-00-44": 0}[ssn] {
			t.Fatal(r.Rows, r.Err)
		}
	}
	run(t, a, "prepare p as select id from app.customers where email = $1 and ssn = $2")
	if got := run(t, a, "execute p('mail5@canary.example', '918-00-5')"); got != "5" {
		t.Fatal(got)
	}
	b := w.connect()
	_, err = try(t, b, "select id from app.customers where email in ('a', 'b')")
	if message := sqlstate(t, err, "53000"); !strings.Contains(message, "6 values") {
		t.Error(message)
	}
	run(t, b, "select id from app.customers where email = 'c'")
	_, err = try(t, b, "select id from app.customers where email = 'd'")
	sqlstate(t, err, "53000")
	run(t, b, "select id from app.customers where name = 'd'")
	if recorded := w.recorded(); strings.Contains(recorded, "canary.example") || strings.Contains(recorded, "918-00") {
		t.Error("a looked up value is recorded")
	}
}

// Who can read around every mask is not masked with, unless the connection says so.
func TestPowerfulRoles(t *testing.T) {
	masks := "[{column: app.customers.email, with: email}]"
	for name, c := range map[string]struct{ make, says string }{
		"superuser":   {"alter role %s superuser", "is a superuser"},
		"replication": {"alter role %s replication", "may replicate"},
		"files":       {"grant pg_read_server_files to %s", "is a member of pg_read_server_files"},
		"owner":       {"alter table app.customers owner to %s", "owns app.customers"},
		"by a group":  {"create role %[1]s_group; grant %[1]s_group to %[1]s; alter table app.customers owner to %[1]s_group", "owns app.customers"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, variant{masks: masks})
			w.exec(strings.ReplaceAll(strings.ReplaceAll(c.make, "%[1]s", w.role), "%s", w.role))
			_, err := pgconn.ConnectConfig(t.Context(), w.config())
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "sallyport harden orders-db") || !strings.Contains(err.Error(), "privileged: true") {
				t.Errorf("not refused: %v", err)
			}
			told := newWorld(t, variant{masks: masks, privileged: true})
			told.exec(strings.ReplaceAll(strings.ReplaceAll(c.make, "%[1]s", told.role), "%s", told.role))
			if got := run(t, told.connect(), "select email from app.customers where id = 1"); got != "m***@***" {
				t.Error(got)
			}
			if !strings.Contains(told.recorded(), c.says) {
				t.Error("no warning is recorded")
			}
			unmasked := newWorld(t, variant{})
			unmasked.exec(strings.ReplaceAll(strings.ReplaceAll(c.make, "%[1]s", unmasked.role), "%s", unmasked.role))
			run(t, unmasked.connect(), "select 1")
		})
	}
}

// What nobody reviewed is masked, and a mask without its column is told.
func TestMasksFollowTheReviewedCatalog(t *testing.T) {
	c := variant{masks: "[{column: app.customers.email, with: email}]"}
	w := newWorld(t, c)
	catalog := w.catalog()
	w.again(c, func() { w.file(reviews.CatalogPath("orders-db"), catalog) })
	w.exec("alter table app.customers add phone text default 'canary-phone'; alter table app.orders add later text default 'fine'")
	a := w.connect()
	if got := run(t, a, "select name, phone from app.customers where id = 1"); got != "name 1|****" {
		t.Error(got)
	}
	if got := run(t, a, "select later from app.orders where id = 1"); got != "fine" {
		t.Error(got)
	}
	if u := w.gateway.Status().Unreadable; len(u) != 0 {
		t.Error(u)
	}
	w.exec("alter table app.customers rename email to mail")
	b := w.connect()
	for _, sql := range []string{"select id from app.customers", "select mail from app.customers", "table app.customers"} {
		_, err := try(t, b, sql)
		sqlstate(t, err, "42501")
	}
	run(t, b, "select * from app.orders")
	st := w.gateway.Status()
	if !st.Ready || len(st.Unreadable) != 1 || !strings.Contains(st.Unreadable[0].Problems[0], `no column "email"`) || !strings.Contains(st.NextAction, "orders-db") {
		t.Errorf("%+v", st)
	}
	w.exec("alter table app.customers rename mail to email")
	run(t, w.connect(), "select id from app.customers")
	if u := w.gateway.Status().Unreadable; len(u) != 0 {
		t.Error(u)
	}
}

func (w *world) file(path string, b []byte) { w.files[path] = mapFile(b) }

// The signer of a release sees its catalog; the gateway says what does not fit before anybody connects.
func TestCheckMasksOfARelease(t *testing.T) {
	c := variant{masks: "[{column: app.customers.email, with: month}, {column: app.orders.status, with: redact}]"}
	w := newWorld(t, c)
	catalog := w.catalog()
	w.again(c, func() { w.file(reviews.CatalogPath("orders-db"), catalog) })
	problems := CheckMasks(w.release().Connections["orders-db"])
	if len(problems) != 1 || !strings.Contains(problems[0], "month has no form for type text") {
		t.Error(problems)
	}
	_, err := try(t, w.connect(), "select id from app.customers")
	sqlstate(t, err, "42501")
	if got := run(t, w.connect(), "select status from app.orders where id = 1"); got != "****" {
		t.Error(got)
	}
}
