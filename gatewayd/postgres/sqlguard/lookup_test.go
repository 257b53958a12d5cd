package sqlguard

import (
	"slices"
	"strings"
	"testing"
)

var lookupMasks = func() []Mask {
	masks := slices.Clone(worldMasks)
	for i := range masks {
		masks[i].Lookup = slices.Contains([]string{"app.customers.email", "app.customers.ssn", "app.customers.salary", "app.events.secret"}, masks[i].Column)
	}
	return masks
}()

// TestLookups finds rows by values that nobody sees.
func TestLookups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lookupMasks)
	for _, c := range []struct {
		sql, want string
		lookups   int
	}{
		{`select id, email from app.customers where email = 'Zq7CanaryAnn@example.test'`, "1\nZ***@***", 1},
		{`select id, email, ssn from app.customers where email = 'nobody@example.test'`, "", 1},
		{`select id from app.customers c where 'Zq7CanaryBob@example.test' = c.email`, "2", 1},
		{`select id from app.customers where country = 'nl' and (email = 'Zq7CanaryAnn@example.test' and ssn = E'Zq7Canary-111')`, "1", 2},
		{`select id from app.customers where email in ('x', 'Zq7CanaryAnn@example.test', 'Zq7CanaryBob@example.test'::text) order by id desc`, "2\n1", 3},
		{`select id from app.customers where email = cast('Zq7CanaryAnn@example.test' as varchar)`, "1", 1},
		{`select name from app.customers where salary = 918273`, "Ann", 1},
		{`select name from app.customers where salary = '918273'::pg_catalog.int4`, "Ann", 1},
		{`select c.name, o.total from app.customers c join app.orders o on o.customer = c.id where c.email = 'Zq7CanaryAnn@example.test'`, "Ann\n5.5", 1},
		{`select c.name from app.customers c left join app.orders o on o.customer = c.id, app.scratch right join app.parent on true where c.email = 'Zq7CanaryAnn@example.test' limit 1`, "Ann", 1},
		{`select count(*), max(email) from app.customers where email = 'Zq7CanaryAnn@example.test' group by country having count(*) > 0`, "1\nZ***@***", 1},
		{`select info from app.events where secret = 'Zq7CanaryEvent'`, "fine", 1},
		{`select ctid is not null from app.customers where ssn = 'Zq7Canary-222' for update`, "t", 1},
	} {
		st := w.guard.Understand(c.sql, w.scope)
		if r := st.Command.Refusal; r != nil {
			t.Errorf("%s: refused: %s", c.sql, r.Reason)
			continue
		}
		rows, _, err := w.exec(st.Rewritten)
		if err != nil || string(rows) != c.want || st.Lookups != c.lookups || !st.ScrubErrors || strings.Contains(st.Recorded, "Zq7") || strings.Contains(st.RecordedRewritten, "Zq7") || strings.Contains(st.RecordedRewritten, "918273") {
			t.Errorf("%s\n  got %q %v, %d lookups\n  sent %s\n  recorded %s\n  %s", c.sql, rows, err, st.Lookups, st.Rewritten, st.Recorded, st.RecordedRewritten)
		}
	}
	prepared := `prepare find (text) as select id from app.customers where email = $1 and id > 0`
	if seen, rule, err := w.send(prepared); rule != "" || err != nil {
		t.Fatal(seen, rule, err)
	}
	run := `execute find('Zq7CanaryBob@example.test')`
	if st := w.guard.Understand(run, w.scope); st.Lookups != 1 || strings.Contains(st.Recorded, "Zq7") {
		t.Errorf("%d lookups, recorded %s", st.Lookups, st.Recorded)
	}
	if seen, rule, err := w.send(run); !strings.HasPrefix(seen, "2\n") {
		t.Error(seen, rule, err)
	}
}

// notLookups would be more than a lookup: each compares with the mask instead, or is refused.
var notLookups = []string{
	`select id from app.customers where email = 'Zq7CanaryAnn@example.test' or id = 99`,
	`select 1 from app.customers where not email <> 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers where not (email = 'x' and true) and ssn <> 'x'`,
	`select 1 from app.customers where email like 'Zq7%'`, `select 1 from app.customers where email ~ '^Zq7'`, `select 1 from app.customers where email >= 'Zq' and email < 'Zr'`, `select 1 from app.customers where email between 'Zq' and 'Zr'`,
	`select 1 from app.customers where starts_with(email, 'Zq7')`, `select 1 from app.customers where left(email, 3) = 'Zq7'`, `select 1 from app.customers where lower(email) = 'zq7canaryann@example.test'`,
	`select 1 from app.customers where email || '' = 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers where email::text = 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers where (email)::varchar(3) = 'Zq7'`,
	`select 1 from app.customers where email collate "C" = 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers where email = 'Zq7CanaryAnn@example.test' collate "C"`,
	`select 1 from app.customers where email = any (array['Zq7CanaryAnn@example.test'])`, `select 1 from app.customers where email = any ('{Zq7CanaryAnn@example.test}')`, `select 1 from app.customers where email = some (select 'Zq7CanaryAnn@example.test')`,
	`select 1 from app.customers where email in (select 'Zq7CanaryAnn@example.test')`, `select 1 from app.customers where email not in ('x', 'y')`, `select 1 from app.customers where email in ('x', name)`,
	`select 1 from app.customers where email = (select 'Zq7CanaryAnn@example.test')`, `select 1 from app.customers where email = 'Zq7CanaryAnn@' || 'example.test'`, `select 1 from app.customers where email = concat('Zq7CanaryAnn', '@example.test')`,
	`select 1 from app.customers where (email, id) = ('Zq7CanaryAnn@example.test', 1)`, `select 1 from app.customers where (email = 'Zq7CanaryAnn@example.test') = true`, `select 1 from app.customers where (email = 'Zq7CanaryAnn@example.test') is true`,
	`select 1 from app.customers where case when email = 'Zq7CanaryAnn@example.test' then true end`, `select 1 from app.customers where coalesce(email = 'Zq7CanaryAnn@example.test', false)`, `select email = 'Zq7CanaryAnn@example.test' from app.customers where id = 1`,
	`select 1 from app.customers c where email is not distinct from 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers where nullif(email, 'Zq7CanaryAnn@example.test') is null`, `select 1 from app.customers where email operator(pg_catalog.=) 'Zq7CanaryAnn@example.test'`,
	`select 1 from app.customers a join app.customers b on a.email = b.email and a.email = 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers a, app.customers b where a.email = b.ssn`, `select 1 from app.customers where email = ssn`,
	`select 1 from app.customers group by country having max(email) = 'Zq7CanaryAnn@example.test'`, `select count(*) filter (where email = 'Zq7CanaryAnn@example.test') from app.customers where id = -1`,
	`select 1 where exists (select from app.customers where email = 'Zq7CanaryAnn@example.test')`, `select 1 from (select * from app.customers where email = 'Zq7CanaryAnn@example.test') s`, `with x as (select * from app.customers where email = 'Zq7CanaryAnn@example.test') select 1 from x`,
	`with x as (select 1) select 1 from app.customers where email = 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers where email = 'Zq7CanaryAnn@example.test' union all select 1 from app.customers where ssn = 'Zq7Canary-111'`,
	`select 1 from app.orders o left join app.customers c on c.id = o.customer where c.email = 'Zq7CanaryAnn@example.test'`, `select 1 from app.orders o full join app.customers c on c.id = o.customer where c.email = 'Zq7CanaryAnn@example.test'`,
	`select 1 from app.customers c (a, b, email) where email = 'Zq7CanaryAnn@example.test'`, `select 1 from app.customer_view where email = 'Zq7CanaryAnn@example.test'`, `select 1 from app.upper_view where shout = 'ZQ7CANARYANN@EXAMPLE.TEST'`, `select 1 from app.events_2026 where secret = 'Zq7CanaryEvent'`,
	`select id from app.customers tablesample bernoulli (100) where email = 'Zq7CanaryAnn@example.test'`, `select 1 from app.customers where token = '91827391-8273-9182-7391-827391827391'`, `select 1 from app.customers where email = 'Zq7CanaryAnn@example.test'::app.address`, `select 1 from app.customers where email = null`,
	`copy (select 1 from app.customers where email = 'Zq7CanaryAnn@example.test') to stdout`, `select 1 from app.orders where exists (select from app.customers where email = 'Zq7CanaryAnn@example.test')`,
	`select 1 from app.customers c, lateral (select 1 where c.email = 'Zq7CanaryAnn@example.test') l`, `create temp table found as select id from app.customers where email = 'Zq7CanaryAnn@example.test' ;; select 1 from found`,
	`explain (analyze, costs off, timing off, summary off) select 1 from app.customers where email = 'Zq7CanaryAnn@example.test'`, `explain select 1 from app.customers where ssn = 'Zq7Canary-111'`,
	`prepare f as select 1 from app.customers where email = 'Zq7CanaryAnn@example.test' ;; explain execute f`, `prepare f as select 1 from app.customers where email = 'Zq7CanaryAnn@example.test' ;; explain (analyze) execute f`,
	`update app.customers set name = 'x' where email = 'Zq7CanaryAnn@example.test'`, `delete from app.customers where email = 'Zq7CanaryAnn@example.test'`, `update app.orders set note = 'y' from app.customers c where c.email = 'Zq7CanaryAnn@example.test'`,
	`select 1 from app.customers where email in ('1','2','3','4','5','6','7','8','9','10','11','12','13','14','15','16','17','18','19','20','Zq7CanaryAnn@example.test')`,
	`prepare f (text[]) as select 1 from app.customers where email = any ($1) ;; execute f('{Zq7CanaryAnn@example.test}')`,
}

// TestNotALookup sends what would ask more than whether one value exists, over two
// databases that differ in masked values only.
func TestNotALookup(t *testing.T) {
	t.Parallel()
	one, two := newWorld(t, lookupMasks), newWorld(t, lookupMasks)
	for _, text := range otherValues {
		if _, _, err := two.exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	one.compact(t)
	two.compact(t)
	for _, sequence := range notLookups {
		var answers [2]string
		for i, w := range []*world{one, two} {
			w.enter(t, sequence)
			for text := range strings.SplitSeq(sequence, " ;; ") {
				if st := w.guard.Understand(text, w.scope); st.Lookups > 0 && st.Command.Refusal == nil {
					t.Errorf("%s\n  is %d lookups: %s", text, st.Lookups, st.Rewritten)
				}
				answers[i] += w.told(text)
			}
		}
		if answers[0] != answers[1] {
			t.Errorf("%s\n  %s\n  %s", sequence, answers[0], answers[1])
		}
	}
}

// TestLookupWhereItHasNoForm is refused when the mask is checked.
func TestLookupWhereItHasNoForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, column := range []string{"notes", "tags", "mood"} {
		if problems := CheckMasks(w.catalog, Options{Masks: []Mask{{Column: "app.customers." + column, With: "redact", Lookup: true}}}); len(problems) != 1 {
			t.Errorf("%s: %v", column, problems)
		}
	}
}
