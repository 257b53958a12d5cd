-- Everyday statements, one sequence a line, ";;" between texts that are sent one after the other. Through the guard each
-- must run and answer as a server answers whose masked cells hold their masks. A line that starts with "~" is only run:
-- its answer depends on the clock, on transaction or object numbers, or shows NULL where a mask is a constant.
-- Reading, as analysts write it.
select id, name, email from customers order by id
select count(*) from customers
select country, count(*) from customers group by country order by 2 desc
select country, avg(total)::numeric(10,2) from customers c join orders o on o.customer = c.id group by 1 order by 1
select c.name, sum(o.total) filter (where o.status = 'paid') as paid from customers c left join orders o on c.id = o.customer group by c.name
select c.id, c.name, c.email, count(o.id) from customers c left join orders o on o.customer = c.id group by c.id order by c.id
select c.*, count(o.id) as n from customers c left join orders o on o.customer = c.id group by c.id order by c.id
select customers.*, max(total) from customers join orders on customer = customers.id group by customers.id
select c.id, c.name from customers c group by c.id having count(*) > 0 order by c.name
select id, name, country, rank() over (partition by country order by name) from customers
select id, sum(id) over (order by id rows between unbounded preceding and current row) from customers
select id, lag(name) over w, lead(email) over w from customers window w as (order by id)
select id, ntile(2) over (order by id), row_number() over () from customers
with recent as (select * from orders where total > 1) select c.name, r.total from recent r join customers c on c.id = r.customer
with a as (select id, email from customers), b as (select * from a) select * from b where id = 1
with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select sum(n) from t
with recursive t(id, parent) as (values (1, 0), (2, 1)), d as (select id, parent from t where id = 1 union all select t.id, t.parent from t join d on t.parent = d.id) search depth first by id set o select id, parent from d order by o
with recursive g(a, b) as (values (1, 2), (2, 1)), w as (select a, b from g where a = 1 union all select g.a, g.b from g join w on g.a = w.b) cycle a set seen using p select a, b, seen from w
select date_trunc('month', born)::date, count(*) from customers group by 1
select extract(year from born)::int, born + 1, born + interval '1 day', age(date '2020-01-01', born) from customers
select d::date from generate_series(date '2026-01-01', date '2026-01-03', interval '1 day') d
select g.n, c.id from generate_series(1, 3) g(n) left join customers c on c.id = g.n order by 1
select id, case when salary > 1000 then 'high' else 'low' end as band, coalesce(balance, 0) from customers
select id, notes->>'k', notes#>>'{a,b}', jsonb_typeof(notes), tags[1], array_length(tags, 1) from customers
select id, jsonb_build_object('id', id, 'mail', email, 'tags', tags) from customers
select json_agg(json_build_object('id', c.id, 'email', c.email) order by c.id) from customers c
select json_agg(c order by c.id) from customers c
select array_agg(id order by id), string_agg(email, ', ' order by id) from customers
select c from customers c order by c.id
select to_jsonb(c) - 'born' from customers c
select row_to_json(c) from customers c where id = 1
select (c).name, (c).email from customers c
select x.name from (select c.* from customers c) x
select anon_1.email, anon_1.n from (select customers.email as email, 1 as n from customers) as anon_1
select distinct country from customers
select distinct on (country) country, id, email from customers order by country, id
select email from customers union select 'x' order by 1
select id from customers union all select id from orders order by 1
select id from customers except select customer from orders
select id from customers intersect select customer from orders order by 1
select * from customers where id in (select customer from orders where total > 6)
select * from customers c where exists (select 1 from orders o where o.customer = c.id)
select * from customers c where not exists (select from orders o where o.customer = c.id and total > 100) order by id
select name from customers where name ilike 'a%' or name ~* '^b'
select * from customers where id = any (array[1, 2]) order by id
select * from customers where (id, country) = (1, 'nl')
select * from customers where (id, country) in ((1, 'nl'), (2, 'be')) order by id
select * from customers where country is distinct from 'nl'
select * from customers where id between 1 and 5 order by id desc limit 1 offset 1
select * from customers order by id fetch first 1 row only
select * from customers order by country collate "C", 1
select email, count(*) from customers group by email order by 1
select country, mood, count(*) from customers group by grouping sets ((country), (mood), ()) order by 1, 2
select country, count(*) from customers group by rollup (country) order by 1
select country, id, count(*) from customers group by cube (country, id) order by 1, 2
select percentile_cont(0.5) within group (order by id), mode() within group (order by country) from customers
select corr(id, id), regr_slope(id, id), stddev(id) from customers
select * from customers c join orders o on c.id = o.customer order by o.id
select c.id, o.id from customers c full outer join orders o on c.id = o.customer order by 1, 2
select * from customers join orders using (id)
select id, email from customers join (select 1 as id) x using (id)
select * from customers c natural join (select 1 as id, 'nl' as country) x
select * from customers natural join orders
select a.id, b.id from customers a cross join customers b order by 1, 2
select * from customers c, lateral (select count(*) as n from orders o where o.customer = c.id) x order by c.id
select c.id, x.total from customers c left join lateral (select total from orders o where o.customer = c.id order by total desc limit 1) x on true order by 1
select app.customers.id, app.customers.email from app.customers order by app.customers.id
select app.customers.* from app.customers order by app.customers.id
select customers.id from app.customers where app.customers.country = 'nl'
select "customers"."id", "customers"."email" from "customers" where "customers"."id" = 1
select "C"."id", "C"."Name" from (select id, name as "Name" from customers) "C" order by 1
select * from app."Odd Name"
select "Se cret", "q""x" from app."Odd Name" as o where o.id = 1
select t.a, t.b from customers as t(a, b) order by t.a
select * from (customers c join orders o on o.customer = c.id) as j order by 1
table customers
table app.orders
values (1, 'a'), (2, 'b')
select * from (values (1, 'x'), (2, 'y')) v(id, label) join customers c using (id) order by id
select * from only customers order by id
select id from only (customers) order by id
select hidden from only parent
select id, hidden from only app.parent p
select * from customers * order by id
select c.email from customers * c order by c.id
select count(*) from customers tablesample bernoulli (100)
select id, email from customers c tablesample system (100) repeatable (7) order by id
select count(*) from orders tablesample bernoulli (100)
select ctid, id, email from customers order by id
select ctid, * from customers order by id
select c.ctid, c.* from customers c order by id
select * from customers where ctid = '(0,1)'
select c.ctid, c.id, o.* from customers c join orders o on o.customer = c.id order by o.id
~select xmin, xmax, tableoid::regclass, id from customers
~select c.tableoid::regclass, c.* from customers c
select ctid, id from orders order by id
select id, info, secret, at from events
select secret from events_2026
select * from events order by id
select * from app.events_2026 e where e.id = 1
select * from parent
select * from child
select tableoid::regclass::text, id, hidden from parent
select * from order_view order by id
select * from customer_view order by id
select name from customer_view2 order by 1
select * from customer_view2 order by 1
select v.id, v.email, o.total from customer_view v join orders o on o.customer = v.id order by 2, 3
select count(*) from customer_view where name = 'Ann'
select id from customer_mat order by id
select * from customer_mat order by id
select * from customer_agg order by country
select * from joined_view order by id, total
select * from wide_view order by id
select * from paid_view
select * from upper_view order by 1
select * from union_view order by 1
select * from deep_view order by 1
select id, email from barrier_view order by id
select v from customer_view v order by v.id
select array(select email from customers order by id)
select (select email from customers where id = 1) as e, (select max(id) from orders)
select lower(name), upper(email), length(ssn), substring(email from 1 for 3), position('@' in email), trim(both ' ' from name) from customers
select name || ' <' || email || '>' from customers order by id
select overlay(name placing 'x' from 1), concat_ws('-', id, name), format('%s/%s', id, email), md5(email) from customers
select regexp_replace(name, 'n+', 'm'), regexp_matches(name, '(.)'), split_part(name, 'n', 1), string_to_array(name, 'n') from customers
select encode(name::bytea, 'hex'), decode('61', 'hex'), to_char(salary, 'FM999'), to_hex(id), ascii(name) from customers
select unnest(array[1, 2]), generate_series(1, 2)
select * from unnest(array['a', 'b']) with ordinality as u(v, n)
select * from rows from (generate_series(1, 2), unnest(array['a', 'b'])) as r(a, b)
select * from json_to_recordset('[{"a":1,"b":"x"}]') as x(a int, b text)
select * from jsonb_each_text('{"a":1}') j
select * from json_populate_record(null::app.scratch, '{"id":1,"v":"x"}')
select * from xmltable('/r/a' passing xml '<r><a>1</a></r>' columns a int path '.')
select xmlelement(name a, name), xmlforest(id, name) from customers
select $$it's$$, E'a\'b', U&'\0061'
select greatest(1, 2), least('a', 'b'), nullif(1, 1), num_nulls(1, null), 7 % 3, 2 ^ 3, |/ 4.0, @ -5, 5 & 3, ~1
select interval '1 day' * 2, date '2026-01-31' + interval '1 month', timestamp '2026-01-01' at time zone 'UTC', make_date(2026, 1, 2)
select to_tsvector('english', name) @@ to_tsquery('ann') from customers order by id
select int4range(1, 5) @> 3, '[1,2]'::int4range, '{1,2}'::int[] && array[2], row(1, 2) = row(1, 2)
select inet '10.0.0.1' << inet '10.0.0.0/8', uuid '00000000-0000-0000-0000-000000000001', b'101', x'ff'
select null::app.mood, 'calm'::app.mood, mood from customers order by id
select enum_range(null::app.mood)
select cast(salary as text), salary::bigint, born::timestamp, balance::float8 from customers
select /* comment */ id from customers -- another
/* c */ select 1 -- x
select e.email as "e-mail", e.id "Id" from customers e order by 2
-- Locks.
select * from customers where id = 1 for update
select id, email from customers c where id = 1 for no key update of c skip locked
select * from orders order by id for share
select c.id from customers c join orders o on o.customer = c.id for update of o nowait
select id from customers order by id for key share
-- Plans.
explain (costs off) select * from orders where id = 1
~explain select id, email from customers where id = 1
~explain (analyze, verbose, buffers, format json) select count(*) from customers
-- Writing.
insert into customers (id, name, email) values (3, 'Cee', 'c@example.test') ;; select id, name from customers order by id
insert into customers (id, name) values (4, 'Dee') returning id
insert into customers (id, name, email, ssn) values (4, 'D', 'D***@***', '****') returning id, name, email, ssn
~insert into customers (id, name) values (4, 'Dee'), (5, 'Eff') returning *
insert into "app"."customers" ("id", "name") values (6, 'Gee') returning "app"."customers"."id", "app"."customers"."name", "app"."customers"."email"
~insert into customers as c (id, name) values (4, 'Dee') returning c.id, c.*
insert into customers (id, name) values (1, 'Ann') on conflict (id) do update set name = excluded.name || '!' returning id, name
insert into customers (id, name) values (1, 'Ann') on conflict (id) do nothing
insert into customers (id, name) values (1, 'A') on conflict on constraint customers_pkey do update set name = excluded.name, country = customers.country where customers.country <> 'zz' returning *
insert into orders (id, customer) select 20, id from customers where id = 1
insert into orders (id, customer, note) select 30 + id, id, name from customers returning id, note
insert into orders values (21, 1, 2.5, 'new', 'x') on conflict (id) do update set status = excluded.status returning *
insert into orders (id) values (10) on conflict do nothing
insert into measures (at) values ('2026-02-02') on conflict do nothing
update orders set status = 'paid', total = total + 1 where id = 10 returning *
update orders o set note = c.name from customers c where c.id = o.customer returning o.id, c.name
update customers set country = 'de' where id = 1 returning *
update customers set name = upper(name), country = coalesce(country, 'x') where id = 1 returning id, name, email as mail
update customers set email = 'x@example.test' where id = 2 returning id
update customers set country = 'x' where id = 2 returning email collate "C", ssn::text, tags[1], upper(email), coalesce(ssn, '-')
update customers c set country = x.country from (values (1, 'fr')) x(id, country) where c.id = x.id returning c.id, c.country, c.email
update customers set (name, country) = ('Z', 'zz') where id = 2 returning customers.*
update app.customers set country = 'es' where app.customers.id = 1
update customers set country = (select max(status) from orders o where o.customer = customers.id) where id = 1 returning id, country
delete from orders where id = 11 returning *
delete from orders using customers c where c.id = orders.customer and c.country = 'be' returning orders.id, c.email
delete from customers where id = 77 returning *
delete from customers c where not exists (select 1 from orders o where o.customer = c.id) returning c.id
with gone as (delete from orders where id = 11 returning *) select * from gone
with changed as (update customers set country = 'it' where id = 1 returning *) select id, email, country from changed
with new as (insert into customers (id, name) values (9, 'New') returning id, email) select * from new
merge into orders o using customers c on o.customer = c.id when matched and o.total > 6 then update set note = c.name when matched then delete
merge into customers c using (values (1, 'Xy'), (9, 'New')) s(id, name) on c.id = s.id when matched then update set name = s.name when not matched then insert (id, name) values (s.id, s.name)
truncate scratch
insert into scratch (id, v, n) values (1, 'a', 2) ;; update scratch set n = n + 1 where id = 1 returning n ;; delete from scratch
copy orders to stdout
copy orders (id, total) to stdout with (format csv, header)
copy customers to stdout
copy app.customers (id, email) to stdout with csv header
copy (select id, email from customers order by id) to stdout
copy generated to stdout
copy (table customer_mat) to stdout
-- Temporary tables and cursors.
create temp table t as select id, email from customers ;; select * from t order by id ;; drop table t
create temp table t (a int primary key, b text) on commit drop ;; insert into t values (1, 'x') on conflict (a) do nothing ;; select * from t
create temporary table t (like app.orders including all) ;; insert into t select * from orders ;; select count(*) from t
select id, email into temp t3 from customers ;; select * from t3 order by id
create temp view v as select email from customers order by id ;; select * from v
create temp table customers (id int) ;; select * from customers ;; select id, email from app.customers order by id
declare cur cursor for select email from customers order by id ;; fetch 1 from cur ;; fetch all from cur ;; close cur
declare cur no scroll cursor for select * from orders order by id ;; fetch forward 1 from cur ;; move 1 in cur
declare cur cursor for select id from customers for update ;; fetch 1 from cur ;; update customers set country = 'xx' where current of cur returning id
prepare p (int) as select id, email from customers where id = $1 ;; execute p(1) ;; execute p(2) ;; deallocate p
prepare p as insert into orders (id) values ($1) returning id ;; execute p(77) ;; deallocate all
-- Transactions and settings.
begin isolation level repeatable read read only ;; select count(*) from orders ;; commit
start transaction ;; savepoint a ;; update orders set note = 'x' ;; rollback to savepoint a ;; release savepoint a ;; commit and chain ;; rollback
set transaction isolation level serializable ;; select 1
set local statement_timeout = '5s' ;; show statement_timeout
set session characteristics as transaction read only ;; show default_transaction_read_only
set application_name = 'report' ;; show application_name
set time zone 'Europe/Berlin' ;; show timezone
set datestyle to iso, mdy ;; show datestyle
set search_path = other ;; select * from customers
set search_path to app, public ;; select count(*) from customers
create temp table orders (id int) ;; select * from orders ;; set search_path = app, pg_temp ;; select count(*) from orders
set search_path = pg_temp, app ;; create table fresh_t (a int) ;; select * from fresh_t ;; select * from pg_temp.fresh_t
select id from orders o where ctid is not null and exists (table customers)
set search_path = "$user", app ;; select count(*) from orders
set constraints all deferred ;; select 1
set names 'UTF8' ;; show client_encoding
reset search_path
reset statement_timeout
reset all
discard temp
discard all
~show all
show search_path
show transaction isolation level
~show server_version
select current_setting('search_path'), current_setting('server_version_num')::int / 10000
select set_config('search_path', 'app', false)
select pg_catalog.set_config('search_path', '', false)
select set_config('timezone', 'UTC', true)
select pg_advisory_xact_lock(1)
select pg_try_advisory_lock(5), pg_advisory_unlock(5)
~select now(), current_timestamp, clock_timestamp() - now() < interval '1 minute', random() < 2, gen_random_uuid() is not null
~select version(), current_database(), current_user, session_user, pg_backend_pid(), inet_server_port(), pg_postmaster_start_time()
~select txid_current(), pg_current_xact_id(), pg_current_snapshot()
select nextval('seq') ;; select currval('app.seq'), lastval() ;; select setval('app.seq', 10, false)
select nextval('app.seq'::regclass)
notify chan, 'x' ;; listen chan ;; unlisten *
select pg_notify('chan', 'payload')
lock table orders in share mode
analyze orders
-- Definitions.
create table app.fresh (id bigint generated always as identity primary key, customer int references app.customers(id) on delete cascade, v text default 'x' check (v <> ''), at timestamptz default now())
create table fresh (id serial primary key, ref int references orders, unique (ref))
create table if not exists app.scratch (id int)
create table app.like_orders (like app.orders including defaults)
create table app.part_2027 partition of app.measures for values from ('2027-01-01') to ('2028-01-01')
create unlogged table app.u (a int)
create index on orders (status) ;; create index if not exists orders_note on orders using btree (lower(note)) where note is not null
alter table orders add column extra int default 0, alter column note set default 'n' ;; select extra from orders order by id
alter table orders add constraint positive check (total >= 0) ;; alter table orders rename column note to remark
create view app.fresh_view as select id, total from orders where total > 1 ;; select * from app.fresh_view order by id
create or replace view order_view as select id, total from orders
create materialized view app.fresh_mat as select count(*) from orders
create sequence app.fresh_seq start 5 ;; select nextval('app.fresh_seq')
create type app.fresh_enum as enum ('a', 'b')
create schema reports ;; drop schema reports
drop table if exists scratch, app.nothing
drop view order_view
comment on table app.orders is 'x' ;; comment on column app.orders.id is 'y'
create temp table t (id int, at timestamptz default now(), constraint c check (id > 0)) ;; alter table t add column x int ;; create index on t (x) ;; drop table t
grant select on orders to public
refresh materialized view order_mat
-- More of the same, several statements in one text among them.
select 1
select
select id, email from app.customers
select * from customers
select c.* from app.customers c
select customers.id from customers
select app.customers.id, app.customers.email from app.customers
select app.customers.* from app.customers
select c.id, c.name, count(o.id) from customers c left join orders o on o.customer = c.id group by c.id order by c.id
select id, name, email from customers group by id
select c.id, c.name from customers c group by 1 having max(c.country) > ''
select c.*, count(*) from customers c group by c.id
select * from customers where email = 'x@y'
select * from customers c join orders o on o.customer = c.id where o.total > 3
select * from orders natural join (select 1 as id) x
with c as (select * from customers) select * from c
with customers as (select 1 as id) select * from customers
select exists (select 1 from customers where id = 1)
select * from customers where id in (select customer from orders)
select * from customers, lateral (select count(*) from orders where customer = customers.id) x
select ctid, id from customers
~select c.xmin, c.id from customers c where c.id = 1
select tableoid::regclass from orders
select row_to_json(c) from customers c
select c from customers c
select to_jsonb(c) - 'email' from customers c
select (c).name from customers c
table app.customers
table orders
select * from (values (1), (2)) v(n)
select max(salary), min(born), count(distinct email) from customers
select string_agg(email, ',' order by id) from customers
select email, count(*) from customers group by email
select name || ' ' || email from customers
select id, rank() over (partition by country order by id) from customers
select case when salary > 10 then 'a' else 'b' end from customers
~select coalesce(ssn, '-') from customers
select lower('ABC'::text)
select id from customers union select id from orders
select email from customers except select 'x'
select * from customers limit 1 offset 1
select distinct on (country) country, id from customers order by country, id
select * from customers order by email desc nulls last
select * from customers for update
select * from customers c for no key update of c skip locked
select * from orders for share
select * from order_view
select id, info, secret from events
select * from events_2026
select "id", "Se cret" from "Odd Name"
select * from app."Odd Name" o
select * from other.customers
select * from "customers" "C"
select * from customers as c (a, b, c1)
~explain select * from customers
~explain (analyze, verbose, costs off) select email from customers
insert into customers (id, name, email) values (3, 'Cee', 'c@example.test')
insert into customers (id, name) values (4, 'Dee') returning id, name
insert into orders values (21, 1, 2.5, 'new', 'x') on conflict (id) do update set status = excluded.status
insert into customers (id, name) values (1, 'Ann') on conflict (id) do update set name = excluded.name
insert into orders (id) values (22) on conflict do nothing
update orders set status = 'paid' where id = 10
update orders o set note = c.email from customers c where c.id = o.customer returning o.id
update customers set country = 'de' where id = 1
update customers set email = 'new@example.test' where id = 2
update customers c set country = upper(c.name) where c.id = 1 returning c.id, c.country
delete from orders where id = 11
delete from orders using customers c where c.id = orders.customer and c.country = 'xx'
delete from customers where id = 77
merge into orders o using customers c on o.customer = c.id when matched then update set note = c.email when not matched then do nothing
begin; update orders set status = 'x' where id = 10; rollback
begin isolation level repeatable read; select 1; commit
begin; savepoint a; rollback to a; release a; commit
create temp table t as select * from customers; select * from t
create temp table t2 (a int, b text); insert into t2 values (1, 'x'); select * from t2; drop table t2
select id, email into temp t3 from customers; select * from t3
create temp view v as select email from customers; select * from v
begin; declare cur cursor for select email from customers; fetch all from cur; close cur; commit
prepare p as select email from customers where id = $1; execute p(1); deallocate p
set search_path = other; select email from customers
set application_name = 'x'
set statement_timeout = '5s'
set local lock_timeout = 5
set time zone 'UTC'
set session characteristics as transaction isolation level read committed
set client_encoding = 'UTF8'
set names 'UTF8'
set standard_conforming_strings = on
set client_min_messages to warning
set extra_float_digits = 3
select current_setting('server_version_num')::int
select nextval('seq')
select nextval('app.seq'), currval('app.seq')
select setval('app.seq', 5)
select app.listed(1)
select listed(2)
create table app.fresh (id serial primary key, ref int references app.orders(id), v text default 'x' check (v <> ''))
create index on orders (status)
alter table orders add column extra int default 0
drop table scratch
drop table if exists app.nothing
comment on table app.orders is 'x'
lock table orders in access share mode
create view app.fresh_view as select id from orders
notify chan, 'x'
listen chan
unlisten *
select pg_notify('chan', 'x')
select extract(year from born) from customers
select substring(email from 1 for 3), position('@' in email), trim(both ' ' from name), overlay(name placing 'x' from 1) from customers
~select current_date, current_timestamp, current_user, localtime
select * from generate_series(1, 3) g(n)
select * from unnest(array[1,2]) with ordinality
select jsonb_build_object('id', id, 'mail', email) from customers
select notes->>'k', tags[1] from customers
select id::text, '1'::int, null::app.mood from customers
select array(select id from customers)
select grouping(country), count(*) from customers group by rollup (country)
select count(*) filter (where id > 1) from customers
select percentile_cont(0.5) within group (order by salary) from customers
~select gen_random_uuid(), now(), random(), version()
select pg_sleep(0)
select pg_advisory_lock(1), pg_advisory_unlock(1)
select xmlelement(name a, email) from customers
select * from json_to_recordset('[{"a":1}]') as x(a int)
;
select table_name from information_schema.tables where table_schema = 'app'
select column_name, data_type from information_schema.columns where table_name = 'customers'
select relname from pg_class order by oid limit 1
~select c.oid::regclass from pg_catalog.pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'app'
~select pid, state, query from pg_stat_activity
select name, setting from pg_settings where name = 'max_index_keys'
select setting from pg_catalog.pg_settings where name='max_index_keys'
select version(), current_schema()
select pg_get_viewdef('app.order_view'::regclass)
select typname from pg_type where oid = 25
-- analysts
select date_trunc('week', at) as w, count(*) filter (where info is not null) from events group by 1 order by 1
select country, percentile_cont(array[0.25,0.5,0.75]) within group (order by id) from customers group by country order by 1
select country, mode() within group (order by name) from customers group by country order by 1
select coalesce(country, 'total') as c, count(*) from customers group by rollup(country) order by grouping(country), 1
select country, name, count(*) from customers group by grouping sets ((country, name), (country), ()) order by 1, 2
select id, name, sum(id) over (order by id rows between unbounded preceding and current row) as running from customers order by id
select id, total, total - lag(total) over w as delta, first_value(total) over w, nth_value(total, 2) over w, ntile(2) over w, cume_dist() over w from orders window w as (order by id) order by id
select * from (select c.*, row_number() over (partition by country order by id desc) as rn from customers c) x where rn = 1 order by id
with recursive t(n) as (values (1) union all select n + 1 from t where n < 5) select sum(n) from t
with monthly as (select date_trunc('month', at) m, count(*) n from events group by 1), ranked as (select m, n, rank() over (order by n desc) r from monthly) select * from ranked where r <= 3
select c.name, o.* from customers c cross join lateral (select * from orders o where o.customer = c.id order by total desc limit 1) o order by 1
select c.id, (select array_agg(o.id order by o.id) from orders o where o.customer = c.id) as ids from customers c order by 1
select sum(case when status = 'paid' then total else 0 end) as paid, sum(case when status = 'new' then total else 0 end) as new from orders
select customer, max(total) filter (where status = 'paid') as paid, max(total) filter (where status = 'new') as new from orders group by customer order by customer
select string_agg(distinct status, ', ' order by status) from orders
select jsonb_build_object('id', id, 'name', name, 'email', email) from customers order by id
select jsonb_agg(to_jsonb(o) - 'note' order by o.id) from orders o
select key, value from jsonb_each_text('{"a":1,"b":"x"}'::jsonb)
select c.id, t.tag from customers c left join lateral unnest(c.tags) as t(tag) on true order by 1, 2
select id, notes ? 'k', notes @> '{"k":"x"}', notes #>> '{k}', jsonb_path_exists(notes, '$.k') from customers order by id
select d::date, coalesce(n, 0) from generate_series('2026-05-01'::date, '2026-05-07', interval '1 day') d left join (select at, count(*) n from events group by at) e on e.at = d order by 1
select int4range(1, 10) * int4range(5, 15), '[2026-01-01,2026-02-01)'::daterange @> '2026-01-15'::date, upper(tsrange('2026-01-01', '2026-01-02'))
select to_tsvector('english', name) @@ plainto_tsquery('english', 'ann'), ts_rank(to_tsvector(name), to_tsquery('ann')) from customers order by id
select name, similarity from (select name, length(name)::float / 10 as similarity from customers) s order by similarity desc, name
select width_bucket(total, 0, 10, 5) as b, count(*), min(total), max(total), round(avg(total), 2), stddev_pop(total), variance(total) from orders group by 1 order by 1
select corr(id, total), regr_slope(total, id), covar_pop(id, total) from orders
select extract(dow from at), to_char(at, 'Mon YYYY'), age(timestamp '2026-06-01', at::timestamp), at + interval '1 month', date_part('quarter', at), date_bin('15 min', at::timestamp, timestamp '2001-01-01') from events
select now() - interval '7 days' < now(), current_date - 30 < current_date, localtimestamp is not null, clock_timestamp() > now() - interval '1 h'
select nullif(country, ''), coalesce(email, 'none'), greatest(id, 5), least(id, 5) from customers order by id
select name from customers where name ~* '^a' or name ilike '%ob' or name similar to '(A|B)%' order by 1
select * from customers where country = any('{nl,be}') and id between 1 and 100 and name not in ('x') order by id
select c.id from customers c where not exists (select 1 from orders o where o.customer = c.id and o.status = 'zzz') order by 1
(select id from customers order by id desc limit 1) union (select id from orders order by id limit 1) order by 1
select country, count(*) c from customers group by country having count(*) >= 1 order by c desc, country
select c.*, o.total from customers c join orders o on o.customer = c.id order by o.id
select c.*, o.* from customers c, orders o where c.id = o.customer order by o.id
select * from customers left join orders on customers.id = orders.customer where orders.total > 1 order by orders.id
select c.id, c.name, c.email, count(o.id) as orders, sum(o.total) from customers c left join orders o on o.customer = c.id group by c.id order by c.id
select c.id, c.name, count(*) from customers c join orders o on o.customer = c.id group by c.id, c.name order by 1
select distinct on (customer) customer, id, total from orders order by customer, total desc
select id, email, split_part(email, '@', 2) as domain from customers order by id
select split_part(email, '@', 2) as domain, count(*) from customers group by domain order by 2 desc
select count(distinct email), count(ssn), max(salary), min(born) from customers
select id from customers where email is not null and ssn <> '' order by email, id
select * from customers where email like '%@example%' order by id
select md5(name), sha256(name::bytea), encode(name::bytea, 'base64') from customers order by id
select * from app.customers order by id offset 1 limit 1
select * from (values (1,'a'),(2,'b')) as v(id, l) join customers using (id) order by id
select * from customers natural join (select 1 as id) x
select a.id, b.id from customers a join customers b on a.country < b.country
select a.id, b.name from customers a left join customers b using (id) order by 1
with c as (select * from customers) select c.id, c.email from c order by id
with c as materialized (select id, email from customers), o as (select customer, sum(total) t from orders group by 1) select c.*, o.t from c left join o on o.customer = c.id order by c.id
with moved as (delete from orders where id = 10 returning *) insert into scratch (id, v) select id, status from moved returning *
with up as (update orders set status = 'x' where id = 10 returning id, status) select * from up
with ins as (insert into scratch (id, v) values (1, 'a') returning id) select * from ins join customers c on c.id = ins.id
insert into scratch (id, v, n) select id, name, id * 2 from customers returning *
insert into scratch values (1, 'x', default), (2, null, 5) returning id, n
insert into scratch (id) values (1) on conflict do nothing
insert into scratch (id, v) values (1, 'a') on conflict (id) do update set v = excluded.v, n = scratch.n + 1 where scratch.v is distinct from excluded.v returning *
~insert into customers (id, name, country) values (50, 'Z', 'fr') returning *
insert into customers (id, name) values (1, 'again') on conflict (id) do nothing
insert into customers (id, name, email, ssn, salary) values (1, 'again', 'a@b.c', 's', 1) on conflict (id) do update set name = excluded.name, email = excluded.email, ssn = excluded.ssn, salary = excluded.salary
insert into customers select 60, 'copy', null, null, null, null, null, null, null, null, null, 'nl'
~update customers set email = 'z@z.test', ssn = null where id = 1 returning id, email, ssn
update orders set total = total * 1.1, note = concat(note, '!') from customers c where c.id = orders.customer and c.country = 'nl' returning orders.*
update orders set total = s.t from (select customer, max(total) t from orders group by customer) s where s.customer = orders.customer
update orders o set note = c.name from customers c where c.id = o.customer
update customers set country = 'nl' where id in (select customer from orders where status = 'new')
update customers c set country = o.status from orders o where o.customer = c.id returning c.id, c.country, o.id
delete from orders using customers c where c.id = orders.customer and c.country = 'be' returning orders.id
delete from customers where id = 999
delete from customers c where c.id > 100 and not exists (select 1 from orders o where o.customer = c.id)
merge into scratch s using orders o on s.id = o.id when matched then update set v = o.status when not matched then insert (id, v) values (o.id, o.status)
merge into customers c using (values (1, 'M')) v(id, name) on c.id = v.id when matched then update set name = v.name when not matched then insert (id, name) values (v.id, v.name)
merge into customers as t using customers as s on t.id = s.id when matched then do nothing
truncate scratch ;; select count(*) from scratch
select id from orders for update skip locked
select id from orders order by id limit 1 for no key update nowait
select c.id from customers c where c.id = 1 for share of c
begin isolation level serializable, read only, deferrable ;; select count(*) from customers ;; rollback
begin ;; declare c scroll cursor for select id, name, email from customers order by id ;; fetch 1 from c ;; fetch next c ;; fetch prior c ;; move forward 1 in c ;; fetch absolute 1 in c ;; close c ;; end
declare c no scroll cursor without hold for select * from orders ;; fetch all c ;; close all
declare c cursor for select id from orders for update ;; fetch 1 c ;; update orders set note = 'cur' where current of c ;; delete from orders where current of c
prepare p (int, text) as select id, name, email from customers where id = $1 and country = $2 ;; execute p (1, 'nl') ;; deallocate p
prepare ins as insert into scratch (id, v) values ($1, $2) returning id ;; execute ins (1, 'x') ;; execute ins (2, 'y') ;; deallocate prepare ins
create temp table mine as select id, email, country from customers ;; create index on mine (id) ;; analyze mine ;; select count(*) from mine ;; insert into mine (id) values (9) ;; update mine set country = 'x' ;; drop table mine
create temporary table if not exists tt (id serial primary key, at timestamptz default now(), v jsonb not null default '{}', check (id > 0)) on commit delete rows ;; insert into tt (v) values ('{"a":1}') ;; select id, v from tt
create temp table tt (like app.orders including all) ;; insert into tt select * from app.orders ;; select count(*) from tt
create temp view vv as select id, name, email from customers ;; select * from vv order by id ;; drop view vv
select * into temp tmp1 from orders where total > 1 ;; select count(*) from tmp1
create temp table x (id int generated always as identity, v text collate "C", w numeric(10,2) generated always as (1.0) stored, unique (v)) ;; alter table x add column z date ;; alter table x alter column z set default current_date ;; alter table x rename column z to zz ;; comment on table pg_temp.x is 'hi' ;; drop table x
create table app.new_table (id bigserial primary key, customer int references app.customers (id) on delete cascade, amount numeric not null check (amount > 0), tags text[] default '{}', created_at timestamptz not null default now())
create table app.t1 (id int primary key) ;; create unique index t1_i on app.t1 (id desc nulls last) include (id) where id > 0 ;; alter table app.t1 add constraint c check (id > 0) not valid ;; alter table app.t1 validate constraint c ;; alter table app.t1 drop constraint c ;; drop index app.t1_i ;; drop table app.t1
create table app.part (id int, at date) partition by list (at) ;; create table app.part_1 partition of app.part for values in ('2026-01-01') ;; create table app.part_d partition of app.part default ;; alter table app.part detach partition app.part_1
create view app.v9 as select id, total from app.orders where total > 1 ;; create or replace view app.v9 as select id, total from app.orders ;; select count(*) from app.v9 ;; drop view app.v9
create materialized view app.m9 as select customer, sum(total) from app.orders group by 1 with no data ;; refresh materialized view app.m9 ;; select count(*) from app.m9 ;; drop materialized view app.m9
create sequence app.s9 increment by 2 start 5 ;; select nextval('app.s9'), currval('app.s9') ;; select lastval() ;; alter sequence app.s9 restart with 1 ;; drop sequence app.s9
create type app.colour as enum ('red', 'green') ;; create table app.cc (c app.colour default 'red') ;; insert into app.cc values ('green') returning c::text ;; drop table app.cc ;; drop type app.colour
alter table orders add column if not exists extra jsonb ;; update orders set extra = '{}' ;; alter table orders alter extra set not null ;; alter table orders drop column extra
alter table orders add column seen timestamptz default now(), add constraint tot check (total >= 0)
explain (costs off) select * from orders where id = 10
explain (analyze, buffers, timing off, summary off, costs off) select count(*) from orders
explain (format json, costs off) select id from customers
explain (costs off, verbose, settings) select id, name from customers where id = 1
~explain analyze update orders set note = 'x' where id = 10
set work_mem = '64MB' ;; show work_mem ;; reset work_mem
set local timezone to 'Europe/Amsterdam' ;; select '2026-01-01 00:00+00'::timestamptz ;; set time zone default
set search_path to app ;; select current_schemas(true) is not null ;; set search_path to default
~show all
show timezone ;; show datestyle ;; show client_encoding ;; show transaction_isolation ;; show statement_timeout ;; show server_encoding ;; show lc_collate ;; show is_superuser
set role none
reset role
set session authorization default
set names 'utf8'
select pg_backend_pid() > 0, pg_is_in_recovery(), inet_server_addr() is not null, inet_client_addr() is not null, version() like 'Postgres%'
select gen_random_uuid() is not null, random() < 1, pg_typeof(1), pg_column_size(1), txid_current() > 0
~select pg_size_pretty(pg_total_relation_size('app.orders')), pg_size_pretty(pg_database_size(current_database()))
~select relname, n_live_tup, n_dead_tup from pg_stat_user_tables where schemaname = 'app' order by relname
~select pid, state, now() - query_start as d from pg_stat_activity where state = 'active'
~select count(*) from pg_locks where granted
select has_table_privilege('app.customers', 'select'), has_column_privilege('app.customers', 'email', 'select'), has_schema_privilege('app', 'usage'), pg_has_role('pg_read_all_data', 'member')
select table_schema, table_name, privilege_type from information_schema.role_table_grants where table_name = 'orders' order by 1, 2, 3
select tc.constraint_name, kcu.column_name, ccu.table_name as foreign_table from information_schema.table_constraints tc join information_schema.key_column_usage kcu on tc.constraint_name = kcu.constraint_name left join information_schema.constraint_column_usage ccu on ccu.constraint_name = tc.constraint_name where tc.table_name = 'orders' order by 1, 2, 3
select routine_name from information_schema.routines where routine_schema = 'app' order by 1
select view_definition from information_schema.views where table_schema = 'app' order by 1
select trigger_name, event_manipulation from information_schema.triggers order by 1, 2
vacuum analyze app.orders
vacuum (verbose, analyze) app.orders
analyze app.orders (id, total)
reindex table app.orders
listen jobs ;; notify jobs, 'x' ;; unlisten jobs
select pg_notify('jobs', '{"id":1}')
select pg_advisory_xact_lock(hashtext('job'), 1)
select pg_try_advisory_xact_lock(1, 2)
lock table app.orders in share row exclusive mode nowait
savepoint a ;; insert into scratch (id) values (5) ;; rollback to a ;; release a
abort
copy app.orders (id, total) to stdout with (format csv, header, delimiter ';', null 'NULL', force_quote (total))
copy (select id, name from app.customers order by id) to stdout (format csv, header true)
copy app.customers to stdout csv
select 1; select 2; select 3
-- only a comment
select /*+ SeqScan(c) */ c.id from customers c order by 1 -- trailing
values (1, 'a'), (2, 'b') order by 1 desc limit 1
select null, true, 1.5e3, 'a''b', e'\n', b'101', x'ff', $q$x$q$, U&'\0061', interval '1 day', date '2026-01-01', array[1,2], row(1,2), '{}'::int[], '{"a":1}'::json
select (array[1,2,3])[2:3], ('{1,2}'::int[])[1], (row(1,2)).f1
select 1 in (1,2), 1 = any(array[1]), 1 not between 2 and 3, null is distinct from 1, not true, 5 % 3, 2 ^ 3, |/ 4, @ -5, 1 << 2, '{a}' || 'b'::text
select cast('1' as int), '2'::numeric(5,2), int '3', 'x'::char(3), '12:00'::time, '(1,2)'::point, '1.2.3.4'::inet, 'a=>1'::text
select overlay('abc' placing 'x' from 2), position('b' in 'abc'), substring('abc' from 2 for 1), trim(both 'x' from 'xax'), extract(epoch from interval '1 h'), 'x' collate "C", timestamp '2026-01-01' at time zone 'UTC', xmlelement(name a, 1)
select regexp_replace('abc', 'b', 'x', 'g'), regexp_match('abc', '(b)'), (regexp_matches('abc', '.', 'g'))[1], split_part('a,b', ',', 2), format('%s-%I', 1, 'a b'), lpad('1', 3, '0'), initcap('ab cd'), reverse('abc'), translate('abc', 'a', 'x'), left('abc', 2), concat_ws('-', 1, 2), string_to_array('a,b', ','), to_number('1,000', '9G999')
select json_object_agg(id, name) from customers
select row_to_json(o) from orders o order by id
select json_build_array(1, 'a', null), jsonb_set('{"a":1}', '{a}', '2'), jsonb_strip_nulls('{"a":null}'), '{"a":{"b":2}}'::jsonb #> '{a,b}', jsonb_pretty('{}'), jsonb_array_elements_text('["a"]')
select * from jsonb_to_recordset('[{"a":1}]') as x(a int), json_array_elements('[1,2]') with ordinality e(v, n)
select * from unnest(array[1,2], array['a','b']) as u(n, l)
select * from rows from (generate_series(1,2), generate_series(1,3)) as t(a, b)
select * from orders tablesample bernoulli (100) repeatable (1) order by id
select * from customers tablesample system (100) order by id
select ctid, xmin is not null, tableoid::regclass, id from orders order by id
select 'app.orders'::regclass, 'app.orders'::regclass::oid > 0, to_regclass('app.nope'), 'int4'::regtype, 'lower(text)'::regprocedure
select count(*) over (), id from orders order by id
select id, dense_rank() over (partition by customer order by total desc range between interval '1' day preceding and current row) from (select id, customer, now() as total from orders) x order by 1
select sum(total) over (order by id groups between 1 preceding and 1 following exclude current row) from orders
select grouping(country, mood), country, mood, count(*) from customers group by cube (country, mood) order by 1, 2, 3
select c.mood, count(*) from customers c group by c.mood order by c.mood
select * from customers where mood = 'calm'
select enum_range(null::app.mood), unnest(enum_range(null::app.mood))
select v.* from customer_view v join orders o on o.customer = v.id order by o.id
select id, app.listed(id) from customers order by id
