package sqlguard

import "testing"

// TestRenameMovesNoMask changes the schema between the guard's look at it and the statement.
func TestRenameMovesNoMask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	changes := []string{
		`alter table app.customers rename name to was_name; alter table app.customers rename ssn to name`,
		`alter table app.customers rename to old_customers; alter table app.orders rename to customers`,
		`alter table app.events rename secret to x; alter table app.events rename info to secret; alter table app.events rename x to info`,
		`alter table app.generated drop free; alter table app.generated rename pin to free`,
		`alter view app.customer_view rename name to n; alter view app.customer_view rename email to name`,
	}
	for _, change := range changes {
		for _, text := range []string{
			`select name from customers`, `select c.name from app.customers c where c.id = 1`, `select id, name, email from customers`, `select * from customers`, `select count(*), max(name) from customers`,
			`select country from customers`, `select info from events`, `select info, secret from events`, `select name from customer_view`, `select * from customer_view`, `select o.id, c.name from orders o join customers c on c.id = o.customer`,
			`copy customers (id, name) to stdout`, `select id from customers where name like 'Zq7%'`, `create temp table t as select id, name from customers; select * from t`, `select free from generated`, `select * from generated`,
			`update customers set country = 'x' where id = 1 returning name`, `update customers set country = 'x' where id = 1 returning *`, `update customers c set country = 'x' where c.id = 1 returning c.id, c.name, c.country, c.email`,
			`update customers set country = 'x' where id = 1 returning lower(name) || country, name::text as n`, `update app.customers set country = 'x' where id = 1 returning app.customers.name, customers.*`, `update customers c set country = 'x' where id = 1 returning (select c.name), email`,
			`update customers set country = name where id = 1 returning country`, `update customers set (country, id) = (name, 77) where id = 1 returning country`, `update customers c set country = upper(c.name) where id = 1 returning country`,
			`insert into customers as k (id, name) values (1, 'x') on conflict (id) do update set country = 'y' returning name, k.name`, `insert into customers as k (id, name) values (1, 'x') on conflict (id) do update set country = k.name returning country`,
			`update events set info = info where id = 1 returning info`, `delete from events where id = 1 returning info`, `delete from events where id = 1 returning *`, `update generated set id = 2 where id = 1 returning free`,
			`with u as (update customers set country = 'x' where id = 1 returning name) select name from u`, `update customer_view set id = 1 where id = 1 returning name`, `update orders o set note = c.name from customers c where c.id = o.customer returning o.note, c.name`,
			`update customers c set country = o.note from orders o where o.customer = c.id returning name, o.note, c.name`,
		} {
			w.enter(t, text)
			st := w.guard.Understand(text, w.scope)
			if st.Command.Refusal != nil {
				t.Fatalf("%s: %s", text, st.Command.Refusal.Reason)
			}
			if _, _, err := w.exec(change); err != nil {
				t.Fatal(err)
			}
			if seen, rule, err := w.send(text); rule == "" && leaks(seen) != "" {
				t.Errorf("%s\n  after %s\n  shows %s (%v)\n  sent: %s", text, change, seen, err, st.Rewritten)
			}
		}
	}
}
