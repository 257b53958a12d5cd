package sqlguard

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// oracles ask about masked values without showing them. Over two databases that
// differ in masked values alone, the answers must be the same.
var oracles = []string{
	`select count(*) from customers where ssn like 'Zq7%'`, `select id from customers where ssn = 'Zq7Canary-111'`, `select id from customers order by ssn, id`, `select id from customers order by salary, id`, `select id from customers where salary > 1000000`,
	`select exists (select 1 from customers where email = 'Zq7CanaryAnn@example.test')`, `select count(distinct ssn) from customers`, `select id from customers where ssn is null`, `select id, rank() over (order by salary) from customers order by id`, `select a.id, b.id from customers a join customers b on a.ssn < b.ssn`,
	`select id from customers where length(ssn) > 3`, `select 1 / (salary - 918273) from customers where id = 1`, `select 1 / nullif(salary, 918273) from customers`, `select id from customers where notes @> '{"k":"Zq7CanaryJson"}'`, `select id from customers where 'Zq7CanaryTag' = any (tags)`,
	`select id from customers group by ssn, id order by id`, `select bool_or(balance > 1000) from customers`, `delete from customers where ssn = 'Zq7Canary-111'`, `update customers set country = 'x' where salary > 1`, `insert into customers (id, name, email) values (50, 'x', 'Zq7CanaryAnn@example.test') on conflict do nothing`,
	`insert into customers (id, name, email) values (50, 'x', 'Zq7CanaryAnn@example.test') on conflict (email) do nothing`, `explain select * from customers where ssn = 'Zq7Canary-111'`, `explain select * from customers where salary > 1000000`, `select token, id from customers where token < '95000000-0000-0000-0000-000000000000'`,
	`merge into scratch s using customers c on c.ssn = 'Zq7Canary-111' when not matched then insert (id) values (c.id)`, `update orders set note = 'x' where customer in (select id from customers where salary > 1000000)`, `select pg_column_size(ssn), pg_column_size(c) from customers c`, `select id from customers where ssn::text collate "C" > 'M'`,
}

func TestOraclesTellNothing(t *testing.T) {
	one, two := newWorld(t, worldMasks), newWorld(t, worldMasks)
	for _, text := range []string{
		`set session_replication_role = replica`,
		`update app.customers set email = 'q' || id || '@q', ssn = 'Other-' || id, salary = 5 - id, balance = id,
			token = ('ffffffff-8273-9182-7391-82739182739' || id)::uuid, notes = '[]', tags = '{}'`,
		`vacuum full analyze app.customers`,
	} {
		if _, _, err := two.exec(text); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := one.exec(`vacuum full analyze app.customers`); err != nil {
		t.Fatal(err)
	}
	for _, text := range oracles {
		var answers [2]string
		for i, w := range []*world{one, two} {
			w.reset(t)
			_, _, _ = w.exec("begin")
			seen, rule, err := w.send(text)
			answers[i] = rule + seen
			var pg *pgconn.PgError
			if asPgError(err, &pg) {
				answers[i] += pg.Code
			}
		}
		if answers[0] != answers[1] {
			t.Errorf("%s\n  %s\n  %s", text, answers[0], answers[1])
		}
	}
}
