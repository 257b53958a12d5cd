package sqlguard

import (
	"testing"
)

// everyday are statements that people, drivers and tools send. None may be refused, and each must run.
var everyday = []string{
	`select 1`, `select`, `select id, email from app.customers`, `select * from customers`, `select c.* from app.customers c`,
	`select customers.id from customers`, `select app.customers.id, app.customers.email from app.customers`, `select app.customers.* from app.customers`,
	`select c.id, c.name, count(o.id) from customers c left join orders o on o.customer = c.id group by c.id order by c.id`,
	`select id, name, email from customers group by id`, `select c.id, c.name from customers c group by 1 having max(c.country) > ''`,
	`select c.*, count(*) from customers c group by c.id`,
	`select * from customers where email = 'x@y'`, `select * from customers c join orders o on o.customer = c.id where o.total > 3`,
	`select * from orders natural join (select 1 as id) x`, `select * from customers join orders using (id)`,
	`with c as (select * from customers) select * from c`, `with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select sum(n) from t`,
	`with customers as (select 1 as id) select * from customers`, `select exists (select 1 from customers where id = 1)`,
	`select * from customers where id in (select customer from orders)`, `select * from customers, lateral (select count(*) from orders where customer = customers.id) x`,
	`select ctid, id from customers`, `select c.xmin, c.id from customers c where c.id = 1`, `select tableoid::regclass from orders`,
	`select row_to_json(c) from customers c`, `select c from customers c`, `select to_jsonb(c) - 'email' from customers c`, `select (c).name from customers c`,
	`table customers`, `table app.customers`, `table orders`, `values (1, 'a'), (2, 'b')`, `select * from (values (1), (2)) v(n)`,
	`select max(salary), min(born), count(distinct email) from customers`, `select string_agg(email, ',' order by id) from customers`,
	`select email, count(*) from customers group by email`, `select name || ' ' || email from customers`, `select id, rank() over (partition by country order by id) from customers`,
	`select case when salary > 10 then 'a' else 'b' end from customers`, `select coalesce(ssn, '-') from customers`, `select lower('ABC'::text)`,
	`select id from customers union select id from orders`, `select email from customers except select 'x'`, `select * from customers limit 1 offset 1`,
	`select distinct on (country) country, id from customers order by country, id`, `select * from customers order by email desc nulls last`,
	`select * from customers for update`, `select * from customers c for no key update of c skip locked`, `select * from orders for share`,
	`select * from order_view`, `select id, info, secret from events`, `select * from events_2026`, `select * from parent`, `select * from child`,
	`select "id", "Se cret" from "Odd Name"`, `select * from app."Odd Name" o`, `select * from other.customers`, `select * from "customers" "C"`,
	`select * from customers as c (a, b, c1)`, `explain select * from customers`, `explain (analyze, verbose, costs off) select email from customers`,
	`insert into customers (id, name, email) values (3, 'Cee', 'c@example.test')`, `insert into customers (id, name) values (4, 'Dee') returning id, name`,
	`insert into orders (id, customer) select 20, id from customers where id = 1`, `insert into orders values (21, 1, 2.5, 'new', 'x') on conflict (id) do update set status = excluded.status`,
	`insert into customers (id, name) values (1, 'Ann') on conflict (id) do update set name = excluded.name`, `insert into orders (id) values (22) on conflict do nothing`,
	`update orders set status = 'paid' where id = 10`, `update orders o set note = c.email from customers c where c.id = o.customer returning o.id`,
	`update customers set country = 'de' where id = 1`, `update customers set email = 'new@example.test' where id = 2`, `update customers c set country = upper(c.name) where c.id = 1 returning c.id, c.country`,
	`delete from orders where id = 11`, `delete from orders using customers c where c.id = orders.customer and c.country = 'xx'`, `delete from customers where id = 77`,
	`merge into orders o using customers c on o.customer = c.id when matched then update set note = c.email when not matched then do nothing`,
	`with gone as (delete from orders where id = 11 returning *) select * from gone`,
	`begin; update orders set status = 'x' where id = 10; rollback`, `begin isolation level repeatable read; select 1; commit`, `begin; savepoint a; rollback to a; release a; commit`,
	`create temp table t as select * from customers; select * from t`, `create temp table t2 (a int, b text); insert into t2 values (1, 'x'); select * from t2; drop table t2`,
	`select id, email into temp t3 from customers; select * from t3`, `create temp view v as select email from customers; select * from v`,
	`begin; declare cur cursor for select email from customers; fetch all from cur; close cur; commit`, `prepare p as select email from customers where id = $1; execute p(1); deallocate p`,
	`set search_path = other; select email from customers`, `set application_name = 'x'`, `set statement_timeout = '5s'`, `set local lock_timeout = 5`, `set time zone 'UTC'`, `set session characteristics as transaction isolation level read committed`,
	`set client_encoding = 'UTF8'`, `set names 'UTF8'`, `set standard_conforming_strings = on`, `set client_min_messages to warning`, `set extra_float_digits = 3`, `reset search_path`, `reset all`, `discard all`,
	`show search_path`, `show transaction isolation level`, `show server_version`, `select pg_catalog.set_config('search_path', '', false)`, `select current_setting('server_version_num')::int`,
	`select nextval('seq')`, `select nextval('app.seq'), currval('app.seq')`, `select setval('app.seq', 5)`, `select app.listed(1)`, `select listed(2)`,
	`create table app.fresh (id serial primary key, ref int references app.orders(id), v text default 'x' check (v <> ''))`, `create index on orders (status)`, `alter table orders add column extra int default 0`,
	`drop table scratch`, `drop table if exists app.nothing`, `truncate scratch`, `analyze orders`, `comment on table app.orders is 'x'`, `lock table orders in access share mode`,
	`create view app.fresh_view as select id from orders`, `notify chan, 'x'`, `listen chan`, `unlisten *`, `select pg_notify('chan', 'x')`,
	`select extract(year from born) from customers`, `select substring(email from 1 for 3), position('@' in email), trim(both ' ' from name), overlay(name placing 'x' from 1) from customers`,
	`select current_date, current_timestamp, current_user, localtime`, `select * from generate_series(1, 3) g(n)`, `select * from unnest(array[1,2]) with ordinality`,
	`select jsonb_build_object('id', id, 'mail', email) from customers`, `select notes->>'k', tags[1] from customers`, `select id::text, '1'::int, null::app.mood from customers`,
	`select array(select id from customers)`, `select grouping(country), count(*) from customers group by rollup (country)`, `select count(*) filter (where id > 1) from customers`,
	`select percentile_cont(0.5) within group (order by salary) from customers`, `select gen_random_uuid(), now(), random(), version()`, `select pg_sleep(0)`, `select pg_advisory_lock(1), pg_advisory_unlock(1)`,
	`select xmlelement(name a, email) from customers`, `select * from json_to_recordset('[{"a":1}]') as x(a int)`, `select $$it's$$, E'a\'b', U&'\0061'`, `/* c */ select 1 -- x`, ``, `;`,
	`select table_name from information_schema.tables where table_schema = 'app'`, `select column_name, data_type from information_schema.columns where table_name = 'customers'`,
	`select relname from pg_class limit 1`, `select c.oid::regclass from pg_catalog.pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'app'`,
	`select pid, state, query from pg_stat_activity`, `select name, setting from pg_settings where name = 'max_index_keys'`, `select setting from pg_catalog.pg_settings where name='max_index_keys'`,
	`select version(), current_schema()`, `select pg_get_viewdef('app.order_view'::regclass)`, `select typname from pg_type where oid = 25`,
}

func TestEverydayStatementsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	for _, text := range everyday {
		w.reset(t)
		if _, _, err := w.exec("begin"); err != nil {
			t.Fatal(err)
		}
		transactional := !containsAny(text, "begin", "discard", "reset all")
		if !transactional {
			_, _, _ = w.exec("rollback")
		}
		seen, rule, err := w.send(text)
		if rule != "" {
			t.Errorf("%s\n  refused: %s: %s", text, rule, seen)
		}
		if err != nil {
			t.Errorf("%s\n  failed: %v\n  sent: %s", text, err, w.guard.Understand(text, w.scope).Rewritten)
		}
		if form := leaks(seen); form != "" {
			t.Errorf("%s\n  shows %q: %s\n  sent: %s", text, form, seen, w.guard.Understand(text, w.scope).Rewritten)
		}
	}
}
