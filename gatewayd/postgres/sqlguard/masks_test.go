package sqlguard

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maskSchema has a column for every type that a mask may meet.
var maskSchema = []string{
	`create type app.level as enum ('low', 'high')`,
	`create domain app.code as varchar(12) check (value is null or length(value) < 12)`,
	`create domain app.amount as numeric(12,2)`,
	`create domain app.day as date`,
	`create extension if not exists citext schema public`,
	`create extension if not exists hstore schema public`,
	`create table app.every (
		t text, v varchar(20), v3 varchar(3), c char(10), n name, ci public.citext, dom app.code,
		i2 int2, i4 int4, i8 int8, num numeric, num2 numeric(12,2), amount app.amount, f4 float4, f8 float8, m money,
		b bool, bin bytea, u uuid, d date, day app.day, ts timestamp, tz timestamptz(3), ti time, tiz timetz, iv interval day to second(3),
		j json, jb jsonb, x xml, vec tsvector, ip inet, net cidr, mac macaddr, bits bit(5), vbits varbit(7),
		e app.level, r int4range, mr int4multirange, ta text[], ea app.level[], h public.hstore, p point)`,
}

// maskValues are put into one column at a time, as far as its type takes them.
var maskValues = []string{
	"", " ", "a", "ab", "abc", "abcd", "abcdefg", "abcdefgh", "Ada Lovelace", "ada@example.org", "@", "a@", "é", "éü", "日本語テキスト一二三四", "👩‍👩‍👧", "it''s", `back\slash`, "%_", "0", "1", "-1", "7", "-7", "99",
	"12345678", "123456789012345", "-32768", "32767", "-2147483648", "2147483647", "-9223372036854775808", "9223372036854775807", "0.5", "-999.99", "9999999999.99", "1e300", "-1.7976931348623157e308", "1e-320", "3.4028235e38",
	"NaN", "infinity", "-infinity", "1e100000", "2026-11-25", "0001-01-01", "4713-01-01 BC", "5874897-12-31", "294276-12-31 23:59:59", "2026-02-28 23:59:59.999999+00", "1970-01-01 00:00:00-12",
	"true", "91827391-8273-9182-7391-827391827391", "low", "high", "{}", "[]", "null", `{"a":1,"a":2}`, `[{"a":{"b":"s"}},[["deep"]],3]`, `{"a":"\u0000"}`, `{"a":"\ud83d"}`, `{"a":1e400000}`, `"text"`, `{"a":[{"b":null},{"b":true}]}`,
	"<a/>", "10.1.2.3", "10.0.0.0/8", "08:00:2b:01:02:03", "10101", "[1,5)", "{[1,2)}", `{"low",NULL}`, `{low,high}`, "k=>v", "(1,2)", "12:30:00", "12:30:00+02", "3 days 04:05:06",
}

var allForms = []string{
	"redact", "null", "email", "hash", "first", "first(3)", "last4", "last(1)", "last(3)", "day", "week", "month", "quarter", "year", "bucket(2)", "bucket(1000)",
	"bucket(1000000000000)", "json(redact a)", "json(null a.b *.c)",
}

// TestEveryFormOnEveryType computes each mask of each column for every value that
// the column takes, and looks at what comes out.
func TestEveryFormOnEveryType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.mustExec(t, maskSchema...)
	w.mustExec(t, "set sallyport.hash_key = '"+strings.Repeat("k", 32)+"'", "set timezone = 'Pacific/Auckland'", "set datestyle = 'german'")
	w.catalog = w.pull(t)
	w.mustExec(t, "set search_path = app, public")
	r := w.catalog.Relation("app", "every")
	masker := masker{cat: w.catalog}
	computed := 0
	for _, col := range r.Columns {
		w.mustExec(t, "truncate app.every", "insert into app.every ("+col.Name+") values (null)")
		if w.accepted(t, col) == 0 {
			t.Errorf("no value for %s", col.Type)
		}
		name := quoteIdent(col.Name)
		for _, with := range allForms {
			expr, err := masker.expression(col, with, name)
			if err != nil {
				continue
			}
			results, err := w.conn.Exec(t.Context(), fmt.Sprintf(`select pg_typeof(shown) = %s::regtype, shown::text, %s::text from (select %s as shown, * from app.every) as s`,
				quoteLiteral(quoteQualified(col.Schema, col.Base)), name, expr)).ReadAll()
			if err != nil {
				t.Errorf("%s of %s: %v", with, col.Type, err)
				continue
			}
			for _, row := range results[0].Rows {
				computed++
				if string(row[0]) != "t" {
					t.Errorf("%s of %s is of another type", with, col.BaseType)
				}
				if problem := judgeMask(with, row[1], row[2]); problem != "" {
					t.Errorf("%s of %s %q = %q: %s", with, col.Type, row[2], row[1], problem)
				}
			}
		}
	}
	t.Logf("%d cells", computed)
}

// judgeMask says what is wrong with a mask of a value, as text.
func judgeMask(with string, maskedCell, rawCell []byte) string {
	f, err := parseForm(with)
	if err != nil {
		return err.Error()
	}
	masked, raw, null := string(maskedCell), string(rawCell), maskedCell == nil
	length := utf8.RuneCountInString(strings.TrimRight(raw, " "))
	switch f.name {
	case "null":
		if !null {
			return "not null"
		}
	case "redact":
		if null {
			return "null"
		}
	case "email", "first", "last", "hash", "bucket", "json":
		if null != (rawCell == nil) {
			return "NULL does not stay what it is"
		}
	}
	if rawCell == nil {
		return ""
	}
	switch f.name {
	case "first":
		if shown := commonPrefix(masked, raw); shown > int(f.n) && !strings.HasPrefix(raw, "***") || shown == length && length > 0 {
			return "shows too much"
		}
	case "last":
		if length > 0 && strings.HasSuffix(masked, raw) && strings.Trim(raw, "0.") != "" {
			return "shows it all"
		}
	case "hash":
		if length > 3 && strings.Contains(masked, raw) {
			return "shows the value"
		}
	case "email":
		if length > 0 && strings.Contains(masked, strings.TrimSpace(raw)) && raw != " " && raw != "@" {
			return "shows the value"
		}
	}
	return ""
}

func commonPrefix(a, b string) int {
	n := 0
	ra, rb := []rune(a), []rune(b)
	for n < len(ra) && n < len(rb) && ra[n] == rb[n] {
		n++
	}
	return n
}

// accepted puts in the values that a column takes, and says how many.
func (w *world) accepted(t *testing.T, col Column) (n int) {
	t.Helper()
	for _, v := range maskValues {
		if _, _, err := w.exec("insert into app.every (" + col.Name + ") values ('" + v + "')"); err == nil {
			n++
		}
	}
	return n
}

func (w *world) mustExec(t *testing.T, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, _, err := w.exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// TestFormsShow says what the forms make of typical values.
func TestFormsShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.mustExec(t, maskSchema...)
	w.mustExec(t, "set sallyport.hash_key = '"+strings.Repeat("k", 32)+"'", "set timezone = 'Asia/Tokyo'")
	w.catalog = w.pull(t)
	r := w.catalog.Relation("app", "every")
	for _, c := range []struct{ column, with, value, want string }{
		{"t", "first(3)", "Ada Lovelace", "Ada***"}, {"t", "first(3)", "Ada", "***"}, {"t", "first", "é", "***"}, {"t", "first", "éü", "é***"},
		{"t", "last(3)", "DE0000123", "****123"}, {"t", "last(3)", "12345", "****"}, {"t", "last4", "1234567", "****"}, {"t", "last4", "12345678", "****5678"},
		{"t", "last(2)", "日本語テキスト", "****スト"}, {"c", "last(2)", "abcd", "****cd    "}, {"c", "last(2)", "abc", "****      "},
		{"i4", "last(2)", "12345", "45"}, {"i4", "last(2)", "999", "0"}, {"i8", "last4", "123456789012", "9012"}, {"i8", "last4", "-123456789012", "0"},
		{"t", "email", "ada@example.org", "a***@***"}, {"t", "email", "no mail", "****"}, {"t", "email", "", "****"},
		{"i4", "bucket(10)", "29", "20"}, {"i4", "bucket(10)", "-29", "-20"}, {"i4", "bucket(10)", "9", "0"}, {"i4", "bucket(10)", "-2147483648", "-2147483640"},
		{"num2", "bucket(1000)", "9999999999.99", "9999999000.00"}, {"f8", "bucket(10)", "29.9", "20"}, {"amount", "bucket(50)", "149.99", "100.00"},
		{"d", "month", "2026-11-25", "2026-11-01"}, {"day", "quarter", "2026-11-25", "2026-10-01"}, {"d", "week", "2026-11-25", "2026-11-23"}, {"d", "year", "5874897-12-31", ""},
		{"ts", "day", "2026-11-25 13:14:15", "2026-11-25 00:00:00"}, {"tz", "day", "2026-11-25 23:30:00+00", "2026-11-26 00:00:00"}, // in UTC, shown in the session's zone: 09:00 less
		{"jb", "json(redact a)", `{"a": "secret", "b": "seen"}`, `{"a": "****", "b": "seen"}`},
		{"jb", "json(redact a.b)", `{"a": {"b": 5, "c": 6}}`, `{"a": {"b": 0, "c": 6}}`},
		{"jb", "json(redact a.b)", `{"a": [{"b": "s", "c": 1}, {"b": true}, "loose", ["deep"], null]}`, `{"a": [{"b": "****", "c": 1}, {"b": false}, "****", [], null]}`},
		{"jb", "json(redact a.b)", `[{"a": {"b": {"x": 1}}}, {"z": 1}]`, `[{"a": {"b": {}}}, {"z": 1}]`},
		{"jb", "json(redact a.b)", `{"a": "not an object"}`, `{"a": "****"}`},
		{"jb", "json(redact a.b)", `"scalar"`, `"****"`}, {"jb", "json(redact a.b)", `{}`, `{}`}, {"jb", "json(redact a.b)", `[]`, `[]`}, {"jb", "json(redact a.b)", `null`, `null`},
		{"jb", "json(null a.b)", `{"a": {"b": [1, 2], "c": 6}}`, `{"a": {"b": null, "c": 6}}`},
		{"jb", "json(redact *.pin)", `{"x": {"pin": 12}, "y": {"pin": "z", "k": 1}, "n": 3}`, `{"n": 0, "x": {"pin": 0}, "y": {"k": 1, "pin": "****"}}`},
		{"jb", "json(redact *.pin x.other)", `{"x": {"pin": 12, "other": 1, "more": 2}}`, `{"x": {"pin": 0, "more": 2, "other": 0}}`},
		{"jb", "json(redact a a.b)", `{"a": {"b": 1}}`, `{"a": {}}`}, {"jb", "json(redact a.b a)", `{"a": {"b": 1}}`, `{"a": {}}`},
		{"jb", "json(redact *)", `{"a": 1, "b": "x"}`, `{"a": 0, "b": "****"}`},
		{"j", "json(redact a)", `{"a":"x","a":"y","b":1}`, `{"a": "****", "b": 1}`}, {"j", "json(redact a)", `{"b":"\u0000"}`, `{}`}, {"j", "json(redact a)", `{"b":"\ud83d"}`, `{}`},
		{"j", "json(redact a)", `{"b":1e400000}`, `{}`}, {"j", "json(redact a)", `{"b":"code 7e1234 \u00e9"}`, `{"b": "code 7e1234 é"}`},
		{"jb", "json(redact a.b.c.d.e.f.g.h)", `{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":"s"}}}}}}}}`, `{"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": "****"}}}}}}}}`},
	} {
		expr, err := masker{cat: w.catalog}.expression(*r.Column(c.column), c.with, quoteIdent(c.column))
		if err != nil {
			t.Errorf("%s of %s: %v", c.with, c.column, err)
			continue
		}
		w.mustExec(t, "truncate app.every", "insert into app.every ("+c.column+") values ("+quoteLiteral(c.value)+")")
		got, _, err := w.exec("select " + expr + " from app.every")
		want := c.want
		if c.column == "tz" {
			want = "2026-11-25 09:00:00+09"
		}
		if string(got) != strings.TrimSpace(want) || err != nil {
			t.Errorf("%s of %s = %q, want %q %v", c.with, c.value, got, want, err)
		}
	}
}

// TestFormsRefused are masks that are refused for what they are, or for the column's type.
func TestFormsRefused(t *testing.T) {
	t.Parallel()
	for _, with := range []string{
		"", "redacted", "first()", "first(0)", "first(-1)", "first(33)", "first(03)", "first( 3)", "last", "last()", "last4(4)", "redact(1)", "null()", "bucket", "bucket()", "bucket(1)", "bucket(1.5)",
		"json", "json()", "json(redact)", "json(mask a)", "json(redact )", "json(redact a..b)", "json(redact .a)", "json(redact $.a)", "json(redact a.b.c.d.e.f.g.h.i)", "json(redact a'b)", `json(redact "a")`,
		"json(redact a) ", "month(1)", "hash(x)", "email'", "first(1)::text", "first(1", "decade",
	} {
		if f, err := parseForm(with); err == nil {
			t.Errorf("%q is taken for %+v", with, f)
		}
	}
	w := newWorld(t, nil)
	w.mustExec(t, maskSchema...)
	w.catalog = w.pull(t)
	for _, c := range []struct{ column, with string }{
		{"t", "month"}, {"t", "bucket(10)"}, {"t", "json(redact a)"}, {"d", "day"}, {"day", "day"}, {"d", "email"}, {"ti", "day"}, {"i2", "last(3)"}, {"i4", "last(5)"}, {"i8", "last(10)"}, {"f8", "hash"},
		{"v3", "hash"}, {"num2", "hash"}, {"i2", "hash"}, {"d", "hash"}, {"ta", "first"}, {"ta", "email"}, {"e", "first"}, {"b", "bucket(2)"}, {"jb", "email"}, {"bin", "hash"}, {"m", "bucket(10)"},
	} {
		problems := CheckMasks(w.catalog, Options{Masks: []Mask{{Column: "app.every." + c.column, With: c.with}}})
		if len(problems) != 1 || problems[0].relation == nil {
			t.Errorf("%s on %s: %v", c.with, c.column, problems)
		}
	}
}

var hexForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// TestHash hashes under a key that no statement can learn.
func TestHash(t *testing.T) {
	t.Parallel()
	masks := []Mask{{Column: "app.customers.email", With: "hash"}, {Column: "app.customers.ssn", With: "hash"}, {Column: "app.customers.salary", With: "hash"}, {Column: "app.customers.token", With: "hash"}, {Column: "app.generated.twice", With: "hash"}, {Column: "app.generated.pin", With: "null"}}
	w := newWorld(t, masks)
	key := "canary0key0canary" + strings.Repeat("0", 32)
	again := func() { w.reset(t); w.mustExec(t, "set sallyport.hash_key = '"+key+"'") }
	again()
	ask := func(sql string) string {
		t.Helper()
		seen, rule, err := w.send(sql)
		if rule != "" || err != nil {
			t.Fatalf("%s: %s %s %v", sql, rule, seen, err)
		}
		if strings.Contains(seen, key[:17]) || leaks(seen) != "" {
			t.Errorf("%s shows %s", sql, seen)
		}
		return strings.Split(seen, "\n")[0]
	}
	one := ask(`select email from app.customers where id = 1`)
	if !hexForm.MatchString(one) || one != ask(`select email from app.customers order by id limit 1`) || one == ask(`select email from app.customers where id = 2`) {
		t.Error("hash", one)
	}
	if got := ask(`select count(*) from app.customers a join app.customers b using (email)`); got != "2" {
		t.Error("joined by hash:", got)
	}
	key = "canary1key1canary" + strings.Repeat("0", 32)
	again()
	if two := ask(`select email from app.customers where id = 1`); two == one {
		t.Error("another session, the same hash")
	}
	for _, sql := range []string{ // ways to the key, none refused for another reason
		`explain (verbose) select email from app.customers where salary > 5`, `explain (verbose, analyze, costs off) select max(email) from app.customers`, `explain (verbose, format json) select email::int from app.customers`,
		`prepare p as select email from app.customers`, `select statement from pg_prepared_statements`, `select query from pg_stat_activity`, `select * from pg_settings`, `show all`,
		`select current_setting(name, true) from (values ('sallyport.hash_key'), ('Sallyport.HASH_KEY'), ('sallyport.' || 'hash_key')) v(name)`, `select setconfig from pg_db_role_setting`,
		`explain (settings) select email from app.customers`, `reset all`, `select email from app.customers`,
	} {
		ask(sql)
	}
	for _, sql := range []string{ // and those that are refused
		`select ('sallyport.hash_key'::text).current_setting`, `select (v.n).current_setting from (values ('sallyport.hash_key'::text)) v(n)`, `select (n).current_setting from (values ('sallyport.hash_key'::text)) v(n)`,
		`select 1 from app.scratch s where (s.v).current_setting is null`, `select (('app.seq'::regclass)).nextval`, `select ('app.seq'::regclass).currval`,
		`show sallyport.hash_key`, `select current_setting('sallyport.hash_key')`, `set sallyport.hash_key = 'x'`, `set "sallyport"."hash_key" = 'x'`, `reset sallyport.hash_key`, `select set_config('sallyport.hash_key', 'x', false)`,
		`select set_config(name, 'x', false) from (values ('sallyport.hash_key')) v(name)`, `alter role current_user set sallyport.hash_key = 'x'`,
		`update app.customers set email = 'guess@example.test' where id = 1`, `insert into app.customers values (9, 'x', 'guess@example.test')`, `insert into app.customers (id, name, ssn) values (9, 'x', 'guess')`,
		`insert into app.customers (id, name) values (1, 'x') on conflict (id) do update set email = 'guess@x'`, `copy app.customers from stdin`, `copy app.customers (id, name, token) from stdin`,
		`merge into app.customers c using (values (1)) v(i) on c.id = v.i when matched then update set salary = 5`, `merge into app.customers c using (values (9)) v(i) on c.id = v.i when not matched then insert (id, name, email) values (9, 'x', 'g@x')`,
		`update app.customer_view set email = 'guess@example.test'`, `update app.generated set pin = 'guess'`, `update app.customers set (name, email) = ('x', 'g@x')`,
		`with u as (update app.customers set email = 'g@x' returning id) select email from app.customers`,
	} {
		if seen, rule, err := w.send(sql); rule == "" {
			t.Errorf("%s: not refused: %s %v", sql, seen, err)
		}
	}
	for _, sql := range []string{`insert into app.customers (id, name) values (7, 'Eve')`, `update app.customers set name = 'Al' where id = 1`} {
		if seen, rule, err := w.send(sql); rule != "" || err != nil {
			t.Errorf("%s: %s %s %v", sql, rule, seen, err)
		}
	}
	w.mustExec(t, "set sallyport.hash_key = ''") // without a key nothing is shown
	if seen, rule, err := w.send(`select count(email), count(salary), count(token) from app.customers`); rule != "" || err != nil || !strings.HasPrefix(seen, "0\n0\n0\n") {
		t.Errorf("without a key: %s %s %v", rule, seen, err)
	}
}

// TestStableHash goes through a function of the database alone.
func TestStableHash(t *testing.T) {
	t.Parallel()
	masks := []Mask{{Column: "app.customers.email", With: "hash"}}
	w := newWorld(t, masks)
	stable := Options{Masks: masks, HashFunction: "keys.hash"}
	if g, err := New(w.catalog, stable); err != nil || len(g.Problems()) != 1 || g.Understand(`select id from app.customers`, w.scope).Command.Refusal == nil {
		t.Error("a function that is not there:", err)
	}
	w.mustExec(t, `create schema keys`, `create function keys.hash(text) returns text language sql immutable strict security definer set search_path = pg_catalog as $$ select encode(sha256(convert_to('stable-key' || $1, 'UTF8')), 'hex') $$`)
	w.catalog = w.pull(t)
	w.mustExec(t, "set search_path = app, public")
	var err error
	if w.guard, err = New(w.catalog, stable); err != nil || len(w.guard.Problems()) > 0 {
		t.Fatal(err, w.guard.Problems())
	}
	first, rule, err := w.send(`select email from app.customers where id = 1`)
	if rule != "" || err != nil || !hexForm.MatchString(strings.Split(first, "\n")[0]) {
		t.Fatal(first, rule, err)
	}
	if seen, _, _ := w.send(`explain (verbose) select email from app.customers`); strings.Contains(seen, "stable-key") {
		t.Error(seen)
	}
	for _, sql := range []string{`select keys.hash('guess')`, `select keys.hash(name) from app.customers`, `select (name).hash from app.customers`} {
		if _, rule, _ := w.send(sql); rule == "" {
			t.Errorf("%s is not refused", sql)
		}
	}
	if _, err := New(w.catalog, Options{Masks: masks, HashFunction: "keys.hash", Functions: []string{"keys.hash"}}); err == nil {
		t.Error("the function of hashes may be listed as one that statements call")
	}
}

// TestReturningShowsEveryForm: where the row is the real one, each mask stands in the list itself.
func TestReturningShowsEveryForm(t *testing.T) {
	t.Parallel()
	var masks []Mask
	for _, m := range formMasks {
		if m.With != "hash" {
			masks = append(masks, m)
		}
	}
	masks = append(masks, Mask{Column: "app.customers.email", With: "email"}, Mask{Column: "app.customers.token", With: "redact"})
	w := newWorld(t, masks)
	want := "1|Al|Z***@***|****11|918000|918000.00|1918-01-01|00000000-0000-0000-0000-000000000000|tense|{\"k\": \"****\"}|{}|nl"
	for _, sql := range []string{
		`update app.customers set name = 'Al' where id = 1 returning *`, `update app.customers c set name = 'Al' where id = 1 returning c.*`,
		`update app.customers set name = 'Al' where id = 1 returning id, name, email, ssn, salary, balance, born, token, mood, notes, tags, country`,
		`update app.customers as "order" set name = 'Al' where id = 1 returning "order".id, name, "order".email, ssn, "order"."salary", balance, born, token, mood, "order".notes, tags, country`,
		`with u as (update app.customers set name = 'Al' where id = 1 returning *) select * from u`,
	} {
		st := w.guard.Understand(sql, w.scope)
		if st.Command.Refusal != nil {
			t.Errorf("%s: %s", sql, st.Command.Refusal.Reason)
			continue
		}
		results, err := w.conn.Exec(t.Context(), "begin; drop trigger noisy on app.customers; "+st.Rewritten+"; rollback").ReadAll()
		if err != nil {
			t.Errorf("%s: %v\n%s", sql, err, st.Rewritten)
			continue
		}
		if got := string(bytes.Join(results[2].Rows[0], []byte("|"))); got != want {
			t.Errorf("%s\n  got  %s\n  want %s", sql, got, want)
		}
	}
	if seen, rule, err := w.send(`update app.customers set name = 'Al' where id = 1 returning jsonb_pretty(notes) || upper(ssn) || extract(year from born)`); rule != "" || err != nil || leaks(seen) != "" {
		t.Error(seen, rule, err)
	}
}

// TestMaskWithoutItsColumn blocks what such a mask was for, and nothing else.
func TestMaskWithoutItsColumn(t *testing.T) {
	t.Parallel()
	masks := []Mask{{Column: "app.customers.mail", With: "email"}, {Column: "app.events.secret", With: "first"}, {Column: "app.parent.gone", With: "redact"}, {Column: "app.orders.note", With: "month"}}
	w := newWorld(t, masks)
	if got := len(w.guard.Problems()); got != 3 {
		t.Errorf("%d problems: %v", got, w.guard.Problems())
	}
	for _, sql := range []string{
		`select id from app.customers`, `table app.customers`, `select * from app.customer_view`, `select shout from app.upper_view`, `select * from app.customer_mat`, `copy app.customers to stdout`, `delete from app.customers`,
		`insert into app.customers (id, name) values (5, 'x') returning *`, `select * from app.orders o`, `select * from app.child`, `select * from app.parent`, `update app.orders set note = 'x'`,
	} {
		if seen, rule, err := w.send(sql); rule == "" {
			t.Errorf("%s is not refused: %s %v", sql, seen, err)
		}
	}
	for _, sql := range []string{`select * from app.events`, `select * from app.scratch`, `select 1`} {
		if seen, rule, err := w.send(sql); rule != "" || err != nil || leaks(seen) != "" {
			t.Errorf("%s: %s %s %v", sql, rule, seen, err)
		}
	}
	if _, err := New(w.catalog, Options{Masks: []Mask{{Column: "app.clients.email", With: "email"}}}); err == nil {
		t.Error("a relation that may have been renamed is taken for gone")
	}
}

// TestColumnsNobodyReviewed masks what appeared since.
func TestColumnsNobodyReviewed(t *testing.T) {
	t.Parallel()
	masks := []Mask{{Column: "app.customers.email", With: "email"}, {Column: "app.parent.hidden", With: "redact"}, {Column: "app.events.secret", With: "first"}}
	w := newWorld(t, masks)
	reviewed := w.catalog
	w.mustExec(t, `alter table app.customers add phone text default 'Zq7CanaryPhone'`, `alter table app.customers add level app.mood default 'tense'`, `alter table app.scratch add later text default 'fine'`,
		`alter table app.parent add later text default 'Zq7CanaryLater'`, `create table app.events_2027 partition of app.events for values from ('2027-01-01') to ('2028-01-01')`, `insert into app.events values (2, '2027-05-05', 'Zq7CanaryEvent', 'shown')`,
		`create view app.phone_view as select id, phone from app.customers`, `create view app.loud_view as select upper(phone) as p from app.customers`,
		`alter table app.customers add loud text generated always as (upper(phone)) stored`, `create index on app.customers (lower(phone))`,
		`alter table app.customers add other app.address default 'Zq7CanaryOther@x'`)
	w.catalog = w.pull(t)
	w.mustExec(t, "set search_path = app, public")
	var err error
	if w.guard, err = New(w.catalog, Options{Masks: masks, Reviewed: reviewed}); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		`select phone, level, name, other from app.customers where id = 1`: "****\ncalm\nAnn\n****", `select loud from app.customers where id = 1`: "****", `select * from app.phone_view where id = 1`: "1\n****", `select p from app.loud_view limit 1`: "****",
		`select later from app.parent`: "****", `select later from app.child`: "****", `select later from app.scratch union select 'none'`: "none", `select info from app.events_2027`: "shown", `select secret from app.events_2027`: "Z***",
		`update app.customers set name = 'Al' where id = 2 returning phone`: "****", `select count(*) from app.customers where phone like 'Zq%'`: "0",
	} {
		seen, rule, err := w.send(sql)
		if rule != "" || err != nil || leaks(seen) != "" || !strings.HasPrefix(seen, want+"\n") {
			t.Errorf("%s: %s %q %v, want %q", sql, rule, seen, err, want)
		}
	}
}

// TestWhatHangsOnAMaskedColumn: what the database itself computes from one.
func TestWhatHangsOnAMaskedColumn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	w.mustExec(t, `create domain app.secret_text as app.address`, `create table app.dom (id int, v app.secret_text, w app.address)`, `insert into app.dom values (1, 'Zq7CanaryDom@x', 'Zq7CanaryDom@x')`,
		`create index on app.dom (upper(v::text))`, `create unique index on app.dom ((v::text || 'x'))`, `create statistics app.st on (upper(v::text)), id from app.dom`, `analyze app.dom`)
	w.catalog = w.pull(t)
	w.mustExec(t, "set search_path = app, public")
	w.masks = append(slices.Clone(worldMasks), Mask{Column: "app.dom.v", With: "last4"}, Mask{Column: "app.dom.w", With: "hash"})
	w.guardAgain(t)
	w.mustExec(t, "set sallyport.hash_key = '"+strings.Repeat("k", 32)+"'")
	for _, sql := range []string{
		`select v from app.dom`, `select upper(v::text) from app.dom`, `select v::app.address from app.dom`, `select w from app.dom`, `select * from app.dom`, `select upper(v::text) from app.dom where upper(v::text) like 'ZQ7%'`,
		`select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'app.dom'::regclass`, `explain (analyze, verbose) select v from app.dom where upper(v::text) = 'X'`, `select twice from app.generated`,
	} {
		seen, rule, err := w.send(sql)
		if rule != "" || err != nil || leaks(seen) != "" {
			t.Errorf("%s: %s %q %v", sql, rule, seen, err)
		}
	}
	for _, sql := range []string{`insert into app.dom values (2, 'Zq7CanaryDom@x') on conflict do nothing`, `select * from pg_stats`, `select * from pg_stats_ext_exprs`, `select * from pg_statistic_ext_data`} {
		if seen, rule, _ := w.send(sql); rule == "" {
			t.Errorf("%s: %q", sql, seen)
		}
	}
	// A generated column whose source is masked and which is not itself: found at check, and blocked.
	if problems := CheckMasks(w.catalog, Options{Masks: []Mask{{Column: "app.generated.pin", With: "null"}}}); len(problems) != 1 || !strings.Contains(problems[0].Reason, "twice") {
		t.Error(problems)
	}
}
