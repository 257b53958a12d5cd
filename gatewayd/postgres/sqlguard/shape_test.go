package sqlguard

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// otherConstants are what constants are replaced by, by class.
var otherConstants = map[byte][]string{
	'i': {"0", "1", "2", "007", "42", "999999999"},
	'f': {"0.0", "1.5", "123456789012345678901234567890.5"},
	's': {`''`, `'x'`, `'app.customers'`, `'it''s'`, `'\'`, `'--'`, `'/*'`, `'search_path'`, `'app.seq'`, `'$$'`, `'é'`, `'Zq7CanaryAnn@example.test'`},
}

// otherTexts are texts with the same skeleton, each with one constant replaced or all.
func otherTexts(text string) []string {
	k := SkeletonOf(text)
	var out []string
	for i, c := range k.constants {
		for _, other := range otherConstants[constantClass(c, text)] {
			out = append(out, text[:c.start]+other+text[c.end:])
		}
		if i > 20 {
			break
		}
	}
	for n := range 4 {
		all, at := "", 0
		for i, c := range k.constants {
			list := otherConstants[constantClass(c, text)]
			all += text[at:c.start] + list[(n*5+i)%len(list)]
			at = c.end
		}
		out = append(out, all+text[at:])
	}
	return out
}

// hostileConstants are statements in which some constant means more than a value.
var hostileConstants = []string{
	`select 'app.customers'::regclass, 5`, `select to_regclass('app.customers'), 5`, `select regclass 'app.customers'`, `select has_table_privilege('app.customers', 'select')`,
	`select set_config('application_name', 'x', false)`, `select set_config('search_path', 'app', true)`, `select pg_catalog.set_config('search_path', '', false)`,
	`SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'`,
	`select current_setting('search_path'), 1`, `select current_setting('timezone', true) where 1 = 1`, `select nextval('app.seq'), 1`, `select nextval('seq')`, `select setval('app.seq', 5)`, `select currval('app.seq'::regclass)`,
	`select pg_notify('channel', 'x')`, `select pg_sleep(0), 'a'`, `select E'a\'b', 'c', 1`, `select $$it's 1$$, 'c'`, `select $q$1$q$, 1`, `select 1e5, 1.5e-3, 1, -1, - 1, +1, 0x10, 1_000`,
	`select U&'\0041' , 'x'`, `select U&'!0041' uescape '!', 'x'`, `select 'a'
		'b', 1`, `select b'01', x'ff', n'x', 'y'`, `select 1 /* 2 'c' */, 3 -- 4
		, 5`, `select id from app.orders limit 5 offset 2`, `select id from app.orders fetch first 3 rows only`,
	`select date '2020-01-01', interval '1 day', interval '5' day, interval(3) '5.123', timestamp(3) '2020-01-01', time '10:00'`,
	`select cast(1 as float(24)), 1::float(53), 1.5::numeric(10,2), 'x'::varchar(5), '1'::bit(1), 1::char(3)`, `select float(7) '1.5'`,
	`select extract('year' from date '2020-01-01'), extract(year from date '2020-01-01')`, `select 'x' like 'y' escape 'z'`,
	`select total from orders where id = 10 and status = 'new'`, `select * from app.customers where email = 'a@b.c' and id = 1`, `select id, name from customers where id = 1 and name = 'Ann'`,
	`select name, count(*) from customers group by 1`, `select id, name from customers group by 1 order by 2`, `select id, email from customers group by id, 2`, `select 1 from customers group by 1`,
	`select * from app.customers tablesample system (50) repeatable (1) where id = 1`, `select id from app.orders tablesample bernoulli (10)`,
	`insert into app.scratch values (1, 'x', 2)`, `insert into app.scratch (id, v) values (1, 'x'), (2, 'y') on conflict (id) do update set v = 'z' returning id, 'k'`,
	`update app.scratch set v = 'x', n = -5 where id = 1 returning *`, `update app.customers set name = 'x' where id = 1`, `delete from app.scratch where id in (1, 2, 3) and v <> 'y'`,
	`update app.customers set email = 'x@y.z' where id = 7`, `select array[1,2,3][2], '{1}'::int[], row(1, 'x')`, `select case when 1 = 2 then 'a' else 'b' end`,
	`select json_value('{"a":1}', '$.a')`, `select * from json_table('[1]', '$[*]' columns (a int path '$')) t`, `select xmlparse(content 'x')`, `select 'x' collate "C", 5`,
	`select 1 as "2", '3' as "a'4"`, `select a.c1 from (values (1, 'x')) a (c1, c2) where c1 = 1`, `table app.orders limit 1`, `explain select 1`, `set work_mem = 5`, `prepare p as select 1`, `copy (select 1) to stdout with (delimiter '|')`,
	`declare c cursor for select 1`, `create temp table t as select 1`, `select 1; select 2`, `with x as (select 1 as a) select a from x where a = 1`, `select sum(total) over (order by id rows 3 preceding) from app.orders`,
	`select pg_catalog.format('%s', 'x'), to_char(5, '99')`, `select * from generate_series(1, 10)`, `select id from app.orders where note = 'a' || 'b' and (id, 1) = (2, 1) for update`, `select 99999999999999999999, 1234567890, 1`,
}

// A statement that a shape understood is what the guard itself makes of it, for
// each text with the same skeleton.
func TestShapesAreWhatTheGuardMakes(t *testing.T) {
	sameShapes(t, newWorld(t, worldMasks), slices.Concat(hostileConstants, treeTexts(t)), 300, 3000)
	sameShapes(t, newWorld(t, lookupMasks), append(notLookups,
		`select id, name from app.customers where email = 'x' and id = 5 limit 3`, `select id from app.customers where salary = -5 and id = -7`, `select id from app.customers where salary in (1, 2) and name = 'x'`,
		`select c.name, 1 from app.customers c join app.orders o on o.customer = c.id and o.id = 10 where c.ssn = 'it''s' and o.note <> 'y'`), 30, 300)
}

func sameShapes(t *testing.T, w *world, texts []string, leastShapes, leastTexts int) {
	t.Helper()
	w.reset(t)
	w.guardAgain(t)
	shaped, compared := 0, 0
	for _, text := range texts {
		st := w.guard.Understand(text, w.scope)
		shape := w.guard.Shape(st)
		if shape == nil {
			continue
		}
		shaped++
		for _, other := range append(otherTexts(text), text) {
			got, ok := shape.Understand(other, SkeletonOf(other))
			if !ok {
				continue
			}
			compared++
			if want := w.guard.Understand(other, w.scope); !reflect.DeepEqual(got, want) {
				t.Errorf("%s\n  understood as %s is\n%+v\nwant\n%+v", other, text, got, want)
			}
			if again := w.guard.Shape(got); again == nil || !slices.Equal(again.free, shape.free) {
				t.Errorf("%s: a shape made of it is another", other)
			}
		}
	}
	t.Logf("%d shapes, %d texts", shaped, compared)
	if shaped < leastShapes || compared < leastTexts {
		t.Errorf("only %d shapes and %d texts were compared", shaped, compared)
	}
}

// What a constant means decides whether it may differ.
func TestConstantsThatMatterStay(t *testing.T) {
	w := newWorld(t, worldMasks)
	w.reset(t)
	w.guardAgain(t)
	for _, c := range []struct{ was, is string }{
		{`select set_config('application_name', 'x', false)`, `select set_config('search_path', 'x', false)`},
		{`select set_config('search_path', 'app', true)`, `select set_config('search_path', 'other', true)`},
		{hostileConstants[7], strings.Replace(hostileConstants[7], "restrict_nonsystem_relation_kind", "session_authorization", 1)},
		{`select current_setting('work_mem'), 1`, `select current_setting('hba_file'), 1`},
		{`select nextval('app.seq'), 1`, `select nextval('app.customers'), 1`},
		{`select nextval('seq'), 1`, `select nextval('seq2'), 1`},
		{`select pg_notify('a', 'x')`, `select pg_notify('b', 'x')`},
		{`select 1::float(24)`, `select 1::float(53)`},
		{`select 'x'::varchar(5)`, `select 'x'::varchar(6)`},
		{`select U&'!0041' uescape '!', 'x'`, `select U&'!0041' uescape '?', 'x'`},
		{`select id, email from customers group by id, 2`, `select id, email from customers group by id, 1`},
		{`select id from app.customers tablesample system (50) where id = 1`, `select id from app.customers tablesample system (60) where id = 1`},
		{`select E'a', 1`, `select E'b', 1`},
		{`select $$a$$, 1`, `select $$b$$, 1`},
		{`select 1e5, 1`, `select 1e6, 1`},
		{`select 1234567890, 1`, `select 1234567891, 1`},
		{`select 1, 2 -- 3`, `select 1, 2 -- 4`},
		{`select 1 /* 'a' */`, `select 1 /* 'b' */`},
		{`explain select 1`, `explain select 2`},
		{`select 1; select 1`, `select 1; select 2`},
	} {
		st := w.guard.Understand(c.was, w.scope)
		if st.Command.Refusal != nil {
			t.Errorf("%s: %v", c.was, st.Command.Refusal)
			continue
		}
		if shape := w.guard.Shape(st); shape != nil {
			if _, ok := shape.Understand(c.is, SkeletonOf(c.is)); ok {
				t.Errorf("%s is taken for %s", c.is, c.was)
			}
		}
	}
	for _, c := range []struct{ was, is string }{
		{`select total from orders where id = 10 and status = 'new'`, `select total from orders where id = 999 and status = 'it''s'`},
		{`select id, email from customers where id = -1 limit 5`, `select id, email from customers where id = -2 limit 50`},
		{`insert into app.scratch values (1, 'x', 2.5)`, `insert into app.scratch values (100, '', 0.125)`},
		{`select pg_sleep(0), current_setting('work_mem')`, `select pg_sleep(5), current_setting('work_mem')`},
	} {
		shape := w.guard.Shape(w.guard.Understand(c.was, w.scope))
		if shape == nil {
			t.Errorf("%s has no shape", c.was)
		} else if _, ok := shape.Understand(c.is, SkeletonOf(c.is)); !ok {
			t.Errorf("%s is not taken for %s", c.is, c.was)
		}
	}
}

// Whatever looks at a constant says so: these are all functions that do.
func TestWhoLooksAtConstants(t *testing.T) {
	allowed := map[string]bool{
		"stringArgument": true, "callSetConfig": true, "qualifyConstant": true, // of calls: matters, or an edit covers it
		"clientValue":   true,                    // matters
		"settingValues": true,                    // of SET, which has no shape
		"constants":     true,                    // whether it is one
		"groupByKeyOf":  true, "groupItem": true, // matters; its place
		"visit": true, "constant": true, "matters": true, "constantPlace": true,
	}
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) < 10 {
		t.Fatal(names, err)
	}
	found := map[string]bool{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && slices.Contains([]string{"GetAConst", "A_Const", "AConst", "GetIval", "GetFval", "GetBoolval", "GetBsval"}, id.Name) {
					found[f.Name.Name] = true
					if !allowed[f.Name.Name] {
						t.Errorf("%s: %s looks at a constant: if its result depends on the value, call matters", name, f.Name.Name)
					}
				}
				return true
			})
		}
	}
	for name := range allowed {
		if !found[name] {
			t.Errorf("%s looks at none", name)
		}
	}
}
