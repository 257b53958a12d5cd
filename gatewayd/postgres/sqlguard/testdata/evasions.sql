-- Evasions, one sequence a line, ";;" between texts that are sent one after the other. Sent directly, as a superuser, each
-- shows a canary (a line that starts with "!" need not: it is for another version, another role or a later guard). Through the
-- guard none may: not in rows, column names, tags, errors or notices.
-- Names, quoting and escapes.
select email from app.customers
select "email" from "app"."customers"
select EMAIL from APP.CUSTOMERS
select eMaIl from CuStOmErS
select U&"\0065mail" from U&"\0061pp".U&"\0063ustomers"
select U&"!0065mail" uescape '!' from customers
select email from U&"app".U&"!0063ustomers" uescape '!'
select email from U&"\+000063ustomers"
select email from app . customers
select email from app/* a */./* /* nested */ */customers
select email from app.customers"orders"
select orders.email from customers orders
select e from customers as x(a, b, e)
select "orders"."ssn" from app.customers "orders", app.orders o
select "pg_class".ssn from customers as "pg_class"
select ssn"id" from customers
select app.customers.ssn from app.customers
select customers.ssn from app.customers
! select ssn from(customers)cross join(select 1)x
select"ssn"from"customers"
select ssn/**/from/**/customers
select (ssn)from customers
select +salary from customers
select salary::pg_catalog.text from customers
select "Se cret" from app."Odd Name"
select "Se cret" as "q""x" from "Odd Name" as "Odd Name"
select U&"Se\0020cret" from U&"Odd\0020Name"
select x."Se cret" from app."Odd Name" x
select $$x$$, ssn from customers
select $a$ $$ ' $a$, ssn from customers
select 'it''s', E'\'', ssn from customers
select 'a' /* ' */, ssn /* ' */ from customers
select '\', ssn from customers --'
select E'\\', ssn from customers --'
! select $1$, ssn from customers --$1$ ;; select ssn from customers
select e'a' , ssn from customers
select b'1', x'1f', n'n', u&'\0041', ssn from customers
select /* -- */ ssn from customers
-- Ways to name rows.
table customers
table app.customers
select * from (table customers) x
select * from only customers
select email from only (app.customers)
select email from customers *
select hidden from only child
select * from customers limit 1
select * from customers c(a, b, c, d, e, f, g, h, i, j, k, l)
select c.* from customers c
select (c).* from customers c
select app.customers.* from app.customers
select c from customers c
select customers from customers
select c::text from customers c
select c.c from customers as c(a, b, c)
select (c).email from customers c
select (c.*).email from customers c
select (select c) from customers c
select row(c.*) from customers c
select row(c.*)::text from customers c
select array[c] from customers c
select array_agg(c) from customers c
select (array_agg(c))[1] from customers c
select to_json(c) from customers c
select to_jsonb(c)->>'ssn' from customers c
select row_to_json(c.*) from customers c
select c.to_json from customers c
select c.row_to_json from customers c
select (c).to_jsonb from customers c
select json_agg(c) from customers c
select jsonb_object_agg(id, c) from customers c
select jsonb_each_text(to_jsonb(c)) from customers c
select format('%s', c) from customers c
select concat(c) from customers c
select concat_ws('|', c.*) from customers c
select quote_literal(c) from customers c
select x.email from (select (c).* from customers c) x
select coalesce(c, c) from customers c
select case when c is not null then c end from customers c
select max(c::text) from customers c
select string_agg(c::text, '') from customers c
select jsonb_populate_record(null::app.customers, to_jsonb(c)) from customers c
select (jsonb_populate_record(null::app.customers, to_jsonb(c))).ssn from customers c
select c is distinct from c, c from customers c
select lag(c) over (order by c.id desc) from customers c
select xmlelement(name x, c::text) from customers c
select hstore from (select c::text as hstore from customers c) x
values ((select ssn from customers limit 1))
values ((select c::text from customers c limit 1))
-- Expressions and transforms.
select reverse(ssn) from customers
select encode(ssn::bytea, 'hex') from customers
select encode(convert_to(ssn, 'UTF8'), 'base64') from customers
select encode(('xx' || ssn)::bytea, 'base64') from customers
select convert_from(convert_to(ssn, 'LATIN1'), 'LATIN1') from customers
select md5(ssn) from customers
select md5(email) from customers where id = 1
select upper(ssn), lower(ssn), initcap(ssn) from customers
select left(ssn, 5) from customers
select overlay(ssn placing 'Z' from 1) from customers
select substring(ssn from '.*') from customers
select substring(ssn similar 'Z#"%#"' escape '#') from customers
select regexp_replace(ssn, '-.*', '') from customers
select regexp_matches(ssn, '.+') from customers
select regexp_split_to_table(ssn, '') from customers
select string_to_table(ssn, null) from customers
select array_to_string(string_to_array(ssn, null), ',') from customers
select split_part(ssn, '-', 1) from customers
select translate(ssn, '-', '_') from customers
select replace(ssn, 'x', 'y') from customers
select lpad(ssn, 30), rpad(ssn, 30), repeat(ssn, 2) from customers
select trim(ssn), btrim(ssn) from customers
select ssn || '' from customers
select '' || customers.ssn || '' from customers
select concat(ssn, email) from customers
select format('%L', ssn) from customers
select quote_nullable(ssn) from customers
select normalize(ssn) from customers
select ssn collate "C" from customers
select ssn::name, ssn::char(20), ssn::varchar from customers
select cast(ssn as text) from customers
select ssn::bytea from customers
select salary + 0 from customers
select salary::numeric / 1 from customers
select -salary, abs(salary), salary * 10 from customers
select to_char(salary, 'FM9999999999') from customers
select salary::bit(32)::int from customers
select to_hex(salary) from customers where id = 1
select int8(salary) from customers
select text(ssn) from customers
select balance::int, round(balance) from customers
select array[salary] from customers
select int4range(salary, null) from customers
select born::text from customers
select born + 0 from customers
select to_char(born, 'YYYY-MM-DD') from customers
select extract(year from born)::text || '-0' || extract(month from born) || '-0' || extract(day from born) from customers
select token::text from customers
select uuid_send(token) from customers
select notes, notes->'k', notes->>'k' from customers
select notes #>> '{k}' from customers
select notes['k'] from customers
select jsonb_path_query(notes, '$.k') from customers
select jsonb_path_query_first(notes, '$.*') from customers
select jsonb_pretty(notes) from customers
select jsonb_set(notes, '{x}', '1') from customers
select notes || '{}' from customers
select (jsonb_each(notes)).value from customers
select jsonb_object_agg(k, v) from customers, jsonb_each(notes) e(k, v)
select tags, tags[1], tags[1:1] from customers
select unnest(tags) from customers
select t from customers, unnest(tags) t
select array_cat(tags, '{}') from customers
select to_tsvector('simple', ssn) from customers
select ts_headline(ssn, to_tsquery('zq7canary')) from customers
select xmlforest(ssn) from customers
select xmlserialize(content xmlelement(name a, ssn) as text) from customers
select xpath('//text()', xmlelement(name a, ssn)) from customers
select greatest(ssn, ''), least(ssn, '~') from customers
select nullif(ssn, 'x'), coalesce(null, ssn) from customers
select case ssn when 'x' then 'y' else ssn end from customers
select * from xmltable('/a' passing xmlelement(name a, (select ssn from customers limit 1)) columns x text path '.')
select * from jsonb_to_recordset((select jsonb_agg(c) from customers c)) as x(ssn text)
select * from json_each_text((select row_to_json(c) from customers c limit 1))
select * from rows from (unnest((select array_agg(ssn) from customers))) as r(v)
select * from generate_series(918273, (select salary from customers where id = 1)) g
select mood::text || ssn from customers
select pg_typeof(ssn), ssn from customers
select ssn as id from customers order by 1
-- Errors.
select ssn::int from customers
select email::date from customers
select ssn::uuid from customers
select cast(email as boolean) from customers
select ssn::app.mood from customers
select ssn::json from customers
! select to_date(ssn, 'YYYY') from customers
select ('{' || ssn)::int[] from customers
select 1 from customers where ssn::int = 1
select 1 from customers order by ssn::int
select 1 from customers group by ssn::int
select 1 from orders where note in (select ssn::int::text from customers)
select count(*) filter (where ssn::int > 0) from customers
select sum(ssn::int) from customers
select id from customers limit (select ssn::int from customers limit 1)
select (select ssn::int from customers limit 1)
select lower(ssn)::inet from customers
select (ssn || '')::xml is null, ssn::macaddr from customers
select interval '1' * ssn::float8 from customers
! select ssn::app.address from customers
! select ('x' || ssn)::bit(8) from customers
! select decode(ssn, 'base64') from customers
! select (salary * 10000000000)::int, salary::text::date from customers
select make_date(salary, 1, 1)::text || salary from customers
select ssn::regclass from customers
select ssn::regproc from customers
! select to_timestamp(ssn, ssn) from customers ;; select ssn from customers
select current_setting(ssn) from customers
select set_config(ssn, 'x', false) from customers
select nextval(ssn::text) from customers
select pg_get_viewdef(ssn) from customers
select enum_first(null::app.mood), ssn::app.mood from customers
-- Aggregates, windows, sets, ordering.
select max(ssn), min(ssn) from customers
select string_agg(ssn, ',' order by ssn) from customers
select array_agg(distinct ssn) from customers
select mode() within group (order by ssn) from customers
select percentile_disc(0) within group (order by salary) from customers
select sum(salary) from customers where id = 1
select avg(salary)::int from customers where id = 1
select bit_or(salary) from customers where id = 1
select any_value from (select max(ssn) as any_value from customers) x
select first_value(ssn) over (order by id), nth_value(ssn, 1) over () from customers
select lead(ssn) over (order by id) from customers
select sum(salary) over (partition by id) from customers
select distinct ssn from customers
select distinct on (ssn) ssn from customers
select ssn from customers group by ssn
select ssn, count(*) from customers group by grouping sets ((ssn), ())
select ssn from customers group by 1 having ssn is not null
select range_agg(int4range(salary, salary + 1)) from customers
select xmlagg(xmlelement(name a, ssn)) from customers
select 'x' union all select ssn from customers
select ssn from customers union select note from orders
select ssn from customers intersect select ssn from customers
select ssn from customers except select 'x'
(select ssn from customers) union all (select email from customers) order by 1
select * from (select id::text from orders union all select ssn from customers) x
-- Joins, sub-selects, WITH.
select a.ssn from customers a join customers b using (ssn)
select ssn from customers natural join customers b
select ssn from orders natural full join customers
select j.ssn from (customers c join orders o on true) as j
! select j.ssn from customers c join orders o using (id) as j ;; select ssn from customers
select * from customers c cross join orders o
select b.* from orders o right join customers b on b.id = o.customer
select (select ssn from customers limit 1)
select array(select ssn from customers)
select * from orders o, lateral (select ssn from customers c where c.id = o.customer) x
select x.* from orders o left join lateral (select c.* from customers c where c.id = o.customer) x on true
select o.id, (select row_to_json(c) from customers c where c.id = o.customer) from orders o
with x as (select ssn from customers) select * from x
with x(a) as (select ssn from customers) select a from x
with x as materialized (table customers) select * from x
with x as not materialized (select * from customers) select ssn from x
with customers as (select * from app.customers) select ssn from customers
with customers as (select * from customers) select ssn from customers
with orders as (select * from customers) select * from orders
with recursive x(s, n) as (select ssn, 1 from customers union all select s, n + 1 from x where n < 2) select s from x
with recursive a as (select * from customers), customers as (select 1 as id) select * from app.customers
with recursive r(id, s) as (select id, ssn from customers where id = 1 union all select c.id, c.ssn from customers c join r on c.id = r.id + 1) search depth first by id set o select * from r
with recursive r(id, s) as (select id, ssn from customers union all select r.id, r.s from r where false) search breadth first by s set o select o from r
with recursive r(id, s) as (select id, ssn from customers where id = 1 union all select r.id, r.s from r) cycle s set c to true default false using p select p from r
with a as (with customers as (select 1) select 1) select ssn from customers
select * from (with customers as (select 1 as ssn) select * from customers) x, customers y
with x as (insert into scratch (id, v) select id, ssn from customers returning v) select * from x
with x as (update orders set note = c.ssn from customers c returning c.ssn) select * from x
! with x as (delete from customers where id = 77 or id = 1 returning ssn) select * from x
with x as (update customers set name = name returning *) select * from x
select j from (customers c join orders o on true) as j
select row_to_json(j) from (customers c join orders o on c.id = o.customer) as j
select j.to_json from (customers c join orders o on true) as j
select (j).ssn from (customers c join orders o on true) as j
select j.row_to_json, j.total from (customers join orders on customers.id = customer) j
select c.id from (customers c join orders o on to_json(c)::text = 'x' or c.id = o.customer) where to_json(c)::text::int = 1
select id from customers c order by c::text::int
select id from customers group by id, customers having max(customers::text)::int = 1
select id from customers where (select customers)::text::int = 1
select id from customers where row(customers.*)::text::int = 1
select x.s from customers c, lateral (select c.ssn as s) x
select x.s from customers c cross join lateral (values (c.ssn)) x(s)
select x.k from customers c, lateral jsonb_each_text(to_jsonb(c)) x(k, v) where v::int = 1
select x.v from customers c, lateral jsonb_each_text(row_to_json(c)::jsonb) x(k, v)
select u.* from customers c, unnest(c.tags) u
update orders set note = (select to_json(c)->>'ssn' from customers c where c.id = 1) returning note
-- Views, materialized views, partitions, inheritance.
select * from customer_view
select email from customer_view
select v from customer_view v
select * from joined_view
select email from wide_view
select * from wide_view where ssn::int = 1
select shout from upper_view
select pay from upper_view
select reverse(shout) from upper_view
select * from union_view
! select v::int from union_view
select shout from deep_view
select * from deep_view
select ssn from barrier_view
select ssn from with_view
select * from customer_mat
select ssn::int from customer_mat
select pay from customer_agg where country = 'nl'
select * from ssn_mat
select ssn from mat_view
select r from leaky_view
select secret from events
select secret from events_2026
select e from events e
select tableoid::regclass, secret from events
select hidden from parent
select hidden from child
select * from child
select twice from generated
select pin from generated
update customer_view set name = name returning email
update customer_view set name = email returning name
delete from customer_view where id = 99 or email::text::int = 1
insert into customer_view (id, name) values (99, 'x') returning (select max(email::text) from app.customers)
update upper_view set id = id returning shout ;; select shout from upper_view
insert into customer_view (id, name, email) values (1, 'x', 'Zq7CanaryAnn@example.test') on conflict do nothing ;; select email from customer_view
-- Sampling, cursors, prepared statements, EXPLAIN.
select ssn from customers tablesample bernoulli (100)
select ssn from customers tablesample system (100) repeatable (1)
select c.ssn from customers c tablesample bernoulli (100)
select ssn from customers tablesample bernoulli ((select 100 + length(ssn) * 0 from customers limit 1))
declare c cursor for select ssn from customers ;; fetch all c
declare c scroll cursor with hold for table customers ;; fetch last c
declare c binary cursor for select ssn, salary from customers ;; fetch all c
! declare c cursor for select * from customers for update ;; update customers set name = ssn where current of c ;; fetch 1 c ;; update customers set name = ssn where current of c returning name
declare c cursor for select id from customers for update ;; fetch c ;; update customers set id = id where current of c returning *
prepare p as table customers ;; execute p
prepare p (text) as select ssn from customers where ssn <> $1 ;; execute p ('x')
prepare p as update customers set name = name returning ssn ;; execute p
prepare p as select ssn from customers ;; create temp table t as execute p ;; select * from t
prepare p as select ssn from customers ;; explain (analyze, verbose) execute p ;; execute p
! prepare p (text) as select $1 ;; execute p((select 'x' from orders limit 0)) ;; select ssn from customers
explain (verbose, costs off) select * from (values ((select ssn from customers limit 1))) x ;; select ssn from customers
explain (analyze, verbose, costs off) select ssn from customers where ssn = 'Zq7Canary' || '-111'
! explain (analyze, format json) select * from customers where ssn::int = 1
explain (analyze) insert into scratch (id) select ssn::int from customers
explain analyze update customers set name = name where ssn::int = 1
-- Storing, then reading.
create temp table t as select * from customers ;; select * from t
create temp table t as table customers ;; table t
create temp table t (s) as select ssn from customers ;; select s from t
create table other.t as select ssn from customers ;; select * from other.t
select ssn into temp t from customers ;; select * from t
select ssn into other.t from customers ;; select * from other.t
create temp view v as select ssn from customers ;; select * from v
create view other.v as select ssn from app.customers ;; select * from other.v
create or replace view app.order_view as select id, (select ssn::numeric from app.customers limit 1) as total from app.orders ;; select * from order_view
create materialized view other.m as select ssn from app.customers ;; select * from other.m
create recursive view pg_temp.v (s) as select ssn from app.customers ;; select * from v
insert into scratch (id, v) select id, ssn from customers ;; select v from scratch
insert into scratch (id, v) values (1, (select ssn from customers where id = 1)) returning v
insert into scratch (id, n) select id, salary from customers returning n
insert into scratch (id, v) values (1, 'x') on conflict (id) do update set v = (select ssn from customers limit 1) ;; insert into scratch (id, v) values (1, 'x') on conflict (id) do update set v = (select ssn from customers limit 1) returning v
update orders set note = c.ssn from customers c where c.id = customer ;; select note from orders
update orders set (note, status) = (select ssn, email from customers where id = 1) returning *
update scratch set v = 'x' ;; insert into scratch (id, v) select 1, email from customers limit 1 returning reverse(v)
delete from orders using customers c where c.id = customer returning c.ssn
merge into scratch s using customers c on s.id = c.id when not matched then insert (id, v) values (c.id, c.ssn) ;; select v from scratch
merge into orders o using customers c on o.customer = c.id when matched then update set note = c.ssn ;; select note from orders
create temp table orders as select ssn as id from customers ;; select * from orders
create temp table customers as select * from app.customers ;; select ssn from customers
create temp view orders as select * from customers ;; select ssn from orders
create temp sequence s ;; select ssn from customers
create table app.p (like app.customers) ;; insert into app.p select * from app.customers ;; select * from app.p
create temp table t () inherits (app.parent) ;; insert into t select id, hidden from app.parent ;; select * from t
create table app.cp partition of app.events for values from ('2020-01-01') to ('2021-01-01') ;; insert into app.cp select id, '2020-05-05', secret from app.events ;; select secret from app.cp
alter table app.parent rename to free ;; select hidden from app.free
alter table app.customers rename ssn to safe ;; select safe from customers
! alter table app.customers set schema other ;; select ssn from other.customers
! alter table app.customers alter ssn type text using ssn || 'x' ;; select ssn from customers
alter table app.customers add copy text generated always as (ssn) stored ;; select copy from customers
alter table app.orders add constraint x check (note <> '') ;; select ssn from customers
alter table app.events detach partition app.events_2026 ;; select secret from events_2026
alter table app.child no inherit app.parent ;; select hidden from child
alter view app.customer_view rename to cv ;; select email from cv
alter view app.customer_view rename column email to e ;; select e from customer_view
alter schema app rename to app2 ;; select ssn from app2.customers
create index on customers ((ssn::int))
create unique index on customers ((left(ssn, 9)))
create index on scratch ((id / 1)) where v = 'x' ;; select ssn from customers
! create statistics app.st on ssn, email from customers ;; analyze customers ;; select most_common_vals from pg_stats where tablename = 'customers'
! create domain app.d as text check (value = '') ;; select ssn::app.d, ssn from customers
create type app.comp as (s text) ;; select (row(ssn)::app.comp).s from customers
create publication p for table customers ;; select ssn from customers
create rule rr as on insert to scratch do also select ssn from app.customers ;; insert into scratch (id) values (5)
create trigger tt before update on scratch for each row execute function app.fire() ;; select ssn from customers
create policy pp on app.customers using (true) ;; select ssn from customers
-- Writing to a masked relation.
update customers set name = ssn returning name
update customers set name = customers.ssn returning name
update customers c set name = c.email returning c.name
update customers c set name = (c).ssn returning name
update customers c set name = c::text returning name
update customers set name = (select ssn) returning name
update customers set (name, country) = (select ssn, email) returning name, country
update customers set (name, country) = row(ssn, email) returning name
update customers set name = name returning *
update customers set name = name returning ssn
update customers set name = name returning ssn as safe
update customers set name = name returning ssn::int
update customers set name = name returning reverse(ssn), upper(email), salary + 1
update customers set name = name returning app.customers.ssn
update app.customers set name = name returning app.customers.*
update customers c set name = name returning c.*, c.ssn
update customers c set name = name returning c
update customers c set name = name returning to_json(c)
update customers c set name = name returning c.row_to_json
update customers c set name = name returning (c).ssn
update customers c set name = name returning (c.*)::text
update customers c set name = name returning row(c.*)
update customers c set name = name returning array[c]
update customers set name = name returning (select ssn)
update customers c set name = name returning (select c.ssn from orders limit 1)
update customers c set name = name returning (select max(d.ssn) from customers d)
update customers set name = name returning tags[1], tags[1:1], notes->'k', notes['k']
update customers set name = name returning ssn collate "C", case when true then ssn end, array[ssn]
update customers c set name = c.name from orders o where o.customer = c.id returning *
update customers c set name = c.name from customers d where d.id = c.id returning d.ssn, c.ssn
update customers c set name = c.name from customers d where d.id = c.id returning d, c.email
update customers c set name = x.s from (select c2.ssn as s from customers c2 where id = 1) x returning name
update customers set name = name where ssn::int = 1
update customers c set name = name where c.email::int = 1
update customers set country = ssn where false or id = 1 returning country
update customers set email = ssn || '@' returning email
update customers set name = null where id = 1
update customers set id = 2 where id = 1 ;; update customers set name = null
! update customers set name = old.ssn ;; select ssn from customers
delete from customers where id = 99 or ssn::int = 1
delete from customers c using orders o where o.note = c.ssn or c.ssn::int = 1
delete from app.child returning *
delete from app.child returning hidden
delete from only app.child c returning c
delete from generated returning twice, pin
insert into customers (id, name) values (9, 'x') on conflict (id) do nothing ;; select ssn from customers
insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = customers.ssn returning name
insert into customers as c (id, name) values (1, 'x') on conflict (id) do update set name = c.email returning name
insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = excluded.name where customers.ssn::int = 1
insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = 'x' returning *
insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = 'x' returning ssn
insert into customers (id, name, email) values (8, 'x', 'Zq7CanaryAnn@example.test') on conflict (email) do update set name = 'y' returning email
insert into customers (id, name, ssn) select 9, 'x', ssn from customers where id = 1 returning ssn
insert into customers select 90 + id, name, null, ssn from customers returning *
merge into customers c using orders o on c.id = o.customer when matched then update set name = c.ssn ;; select name from customers
merge into customers c using orders o on c.ssn::int = 1 when matched then delete
merge into customers c using orders o on c.id = o.customer when matched and c.ssn::int = 1 then delete
merge into customers c using (select id, ssn from customers) s on c.id = s.id when matched then update set name = s.ssn ;; select name from customers
copy customers to stdout
copy app.customers (ssn) to stdout
copy customers (id, email) to stdout with (format csv, header true)
copy (select * from customers) to stdout
copy (table customers) to stdout
copy (select c from customers c) to stdout
copy (values ((select ssn from customers limit 1))) to stdout
copy (update customers set name = name returning ssn) to stdout
copy (delete from customers where id = 9 or id = 1 returning *) to stdout
copy (with x as (select ssn from customers) select * from x) to stdout
copy "customers" to stdout (format binary)
! copy events to stdout ;; select secret from events
! copy customer_mat to stdout ;; select ssn from customer_mat
-- Functions and settings that read by name or run text.
select query_to_xml('select ssn from app.customers', true, true, '')
select pg_catalog.query_to_xml('table app.customers', true, true, '')
select "query_to_xml"('table app.customers', true, true, '')
select U&"query\005fto_xml"('table app.customers', true, true, '')
select table_to_xml('app.customers', true, true, '')
select schema_to_xml('app', true, true, '')
select table_to_xml_and_xmlschema('app.customers', true, true, '')
select * from ts_stat('select to_tsvector(''simple'', ssn) from app.customers')
select ts_rewrite('a'::tsquery, $$select 'a'::tsquery, quote_literal(ssn)::tsquery from app.customers$$)
declare c cursor for select ssn from app.customers ;; select cursor_to_xml('c', 10, true, true, '')
do $$ begin raise notice '%', (select ssn from app.customers limit 1); end $$
do language plpgsql 'begin raise exception ''%'', (select email from app.customers limit 1); end'
create function pg_temp.f() returns text language sql as 'select ssn from app.customers limit 1' ;; select pg_temp.f()
create or replace function app.listed(int) returns int language sql as 'select ssn::int from app.customers' ;; select app.listed(1)
create aggregate pg_temp.agg(text) (sfunc = textcat, stype = text) ;; select pg_temp.agg(ssn) from app.customers
create procedure pg_temp.p() language plpgsql as 'begin raise notice ''%'', (select ssn from app.customers limit 1); end' ;; call pg_temp.p()
select app.reveal(1)
select reveal(1)
select * from reveal(1)
! select id.reveal from orders ;; select app.reveal(id) from customers
select (1).reveal
select o.leak from orders o
select orders.leak from orders
select leak(o) from orders o
select (o).leak from orders o
select o.leak_any from orders o
select (o).email from orders o
select o.email from orders o
select lower('x'::varchar)
select lower(name::varchar) from customers
select 1 ## 2
select 1 operator(app.##) 2
select app.listed(1), ssn from customers
! select lo_get(lo_from_bytea(0, (select ssn::bytea from customers limit 1)))
select set_config('application_name', (select ssn from customers limit 1), false)
select set_config('x.y', ssn, false) from customers ;; select current_setting('x.y')
set standard_conforming_strings = off ;; select '\'', ssn from customers --'
select set_config('standard_conforming_strings', 'off', false) ;; select ssn from customers
set client_encoding = 'SJIS' ;; select ssn from customers
set search_path = app, pg_catalog ;; select lower(name::varchar) from customers
set search_path = other ;; set search_path = app ;; select ssn from customers
set search_path = pg_temp, app ;; create temp table t as select ssn from customers ;; select * from t
set search_path = pg_catalog ;; select * from app.customers
select pg_notify('x', ssn) from customers ;; select ssn from customers
select 1 from customers where pg_notify('x', ssn) is null ;; select ssn from customers
select pg_sleep(salary * 0), salary from customers
select 'x'::text from pg_sleep((select salary * 0 from customers limit 1)), customers where ssn::int = 1
select * from pg_stats where tablename = 'customers'
select histogram_bounds from pg_catalog.pg_stats where attname = 'ssn'
select stavalues1 from pg_statistic where starelid = 'app.customers'::regclass
select * from pg_stats_ext ;; select stavalues1 from pg_statistic
select query from pg_stat_activity where query like '%' || 'Zq7' || 'Canary%' ;; select ssn from customers
select * from pg_largeobject ;; select ssn from customers
select pg_stat_get_activity(pg_backend_pid()), 'Zq7' || 'Canary'  ;; select ssn from customers
! select pg_read_file('/etc/passwd')
! copy customers to program 'cat >/dev/null'
! select * from dblink('dbname=x', 'select ssn from app.customers') as t(s text)
! select xpath_table('id', 'ssn', 'app.customers', '/', 'true')
! select crosstab('select id, id, ssn from app.customers')
! select * from pg_stat_statements
! select json_table from customers
! merge into customers c using orders o on c.id = o.customer when matched then update set name = 'x' returning c.*
! merge into customers c using orders o on c.id = o.customer when matched then update set name = 'x' returning old.ssn
! update customers set name = name returning old.ssn, new.email
! update customers set name = name returning old.*, new.*
! update customers set name = name returning with (old as o) o.ssn
! select j.* from customers c, json_table(c.notes, '$' columns (k text path '$.k')) j
! select json_value(notes, '$.k'), json_query(notes, '$') from customers
! select json_object('a': ssn), json_array(ssn), json_arrayagg(ssn) from customers
! alter role current_user set search_path = x
! set role postgres
! set session authorization postgres
! set session_replication_role = replica
! prepare transaction 'x'
! load 'x'
! import foreign schema x from server y into z
! security label on table customers is 'x'
! select ('config_file'::text).current_setting
! select (x.t).current_setting from (select 'data_directory'::text as t) x
! select ('app.seq'::regclass).nextval
select pg_get_serial_sequence('app.customers', (select ssn from customers limit 1))
select setval('app.seq', salary) from customers
select setval(pg_get_serial_sequence('app.customers', 'id'), salary) from customers ;; select salary from customers
with c as (select * from customers) select c.ssn, c.email from c
with c(a, b, email) as (select * from customers) select c.email from c
with c as (select id from orders) select o.email from c, orders o ;; select ssn from customers
select old.email from (select * from customers) old
with email as (select * from customers) select email.email, email from email
select s.email from (select * from customers union all select * from customers) s
select x.email from (select * from (customers c join orders o on true) j) x
select set_config('application_name', ssn, false) from customers
select set_config('application_name', 'x', false), ssn from customers
select set_config('search_path', 'other', false), email from app.customers
select (select set_config('search_path', 'app', false)), (select ssn from app.customers limit 1)
set role to default; select ssn from customers
reset role; select ssn from customers
! set session authorization default ;; select current_user
select case ssn when 'x' then 1 end, ssn from customers
select ssn between 'a' and 'b', ssn from customers
-- json constructors
! select json_object('k': ssn) from customers
! select json_arrayagg(ssn) from customers
! select json_array(select ssn from customers)
! select * from json_table((select jsonb_agg(c) from customers c), '$[*]' columns (s text path '$.ssn'))
! select json_value(to_jsonb(c), '$.ssn') from customers c
! select json_query(notes, '$') from customers
! select json_serialize(json_object('s' value ssn)) from customers
! select any_value(ssn) from customers
! select array_sort(array_agg(ssn)) from customers
! select array_reverse(tags), array_sample(tags, 1), array_shuffle(tags) from customers
! select casefold(ssn) from customers
! select reverse(ssn::bytea) from customers
! select crc32(ssn::bytea), ssn is json from customers
! select to_bin(salary), to_oct(salary) from customers
! select json_exists(notes, '$ ? (@.k starts with "Zq7")'), notes from customers
! merge into scratch s using customers c on s.id = c.id when not matched then insert (id, v) values (c.id, c.ssn) returning merge_action(), s.v
! merge into customers c using orders o on c.id = o.customer when matched then update set name = c.name returning c.ssn
! merge into customers c using orders o on c.id = o.customer when matched then update set name = c.name returning c.*
! merge into customers c using orders o on c.id = o.customer when matched then update set name = c.name returning *
! merge into customers c using orders o on c.id = o.customer when matched and c.ssn like 'Zq7%' then update set name = 'hit' returning c.name
! merge into customers c using customers d on c.id = d.id when matched then update set name = d.ssn returning c.name
! merge into customers c using (select id, ssn from customers) d on c.ssn = d.ssn when matched then update set name = 'hit' returning c.name
! merge into orders o using customers c on o.customer = c.id when matched then update set note = c returning o.note
! with m as (merge into orders o using customers c on o.customer = c.id when matched then update set note = c.ssn returning o.*, c.*) select * from m
! merge into customers c using orders o on c.id = o.customer when matched then update set name = 'x' returning old.ssn, new.ssn
! merge into customers c using orders o on c.id = o.customer when matched then delete returning old
! update customers set name = 'x' returning old.ssn
! update customers set name = 'x' returning old.*
! update customers set name = 'x' returning old
! update customers set name = 'x' returning new::text
! update customers set name = 'x' returning to_jsonb(old)
! update customers set name = 'x' returning (old).ssn
! update customers set name = 'x' returning (select old.ssn)
! update customers set name = 'x' returning old.ssn || ''
! update customers c set name = 'x' returning with (old as o, new as n) o.ssn
! delete from customers returning old.ssn
! delete from customers returning old.*, new.*
! insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = 'y' returning old.ssn
! insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = 'y' returning old
! insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = 'y' returning new.*
! update customers as old set name = 'x' returning old.ssn
! update orders set note = 'x' from customers c where c.id = customer returning old.note, c.ssn, c
! explain (analyze, verbose, serialize text) select ssn, ssn || 'x' from customers
! explain (memory, verbose) select ssn from customers where ssn = (select max(ssn) from customers)
! explain (generic_plan, verbose) select ssn from customers where ssn = $1
! copy customers from stdin (on_error ignore, log_verbosity verbose)
! copy scratch from stdin where v = (select ssn from customers limit 1)
-- settings and plans
set debug_print_plan = on ;; set client_min_messages = log ;; select ssn from customers
set log_statement = 'all' ;; set client_min_messages = log ;; select ssn from customers
set auto_explain.log_min_duration = 0 ;; select ssn from customers
set session_replication_role = origin ;; select ssn from customers
set "app.x" = 'y' ;; select current_setting('app.x'), ssn from customers
set plan_cache_mode = force_generic_plan ;; prepare p(int) as select ssn from customers where id = $1 ;; execute p(1)
set plan_cache_mode = force_custom_plan ;; prepare p(text) as select $1 || ssn from customers ;; execute p('x')
set search_path = pg_temp, app ;; create temp table customers as select * from app.customers ;; select ssn from customers
set search_path = app, pg_catalog ;; select lower(ssn) from customers
set local search_path = app ;; create temp view customers as select * from app.customers ;; select * from customers
begin ;; create temp table x on commit drop as select * from customers ;; select * from x ;; commit
begin ;; savepoint s ;; create temp table customers (ssn text) ;; rollback to s ;; select ssn from customers ;; rollback
begin ;; create temp table customers (ssn text) ;; rollback ;; select ssn from customers
create temp table a (like customers including all) ;; insert into a select * from customers ;; table a
create temp table a as select ssn from customers with no data ;; insert into a select ssn from customers ;; select * from a
create temp table if not exists a as table customers ;; table a
create temp view a (x) as select ssn from customers ;; select x from a
create temp view a with (security_invoker) as table customers ;; select ssn from a
create temp recursive view a (x) as select ssn from customers ;; select x from a
create local temporary table a as select jsonb_agg(c) as j from customers c ;; select j from a
create temp table a (v text default 'x') ;; copy a from stdin ;; insert into a select ssn from customers ;; copy a to stdout
create unlogged table app.leakc as select ssn from customers ;; select * from app.leakc
create table app.leakd (like app.customers) ;; insert into app.leakd select * from app.customers ;; select ssn from app.leakd
insert into scratch select id, ssn, salary from customers ;; select v, n from scratch
insert into scratch (id, v) select id, c from customers c ;; select v from scratch
update scratch set v = 'x' ;; insert into scratch (id, v) select id, (c).ssn from customers c returning v
insert into orders (id, note) (select 900 + id, ssn from customers) returning orders.*
with t as (insert into orders (id, note) select 900 + id, ssn from customers returning note) select string_agg(note, '|') from t
delete from orders o using customers c where c.id = o.customer returning c.ssn
delete from orders o using customers c where c.id = o.customer returning *
delete from orders o using customers c where c.id = o.customer returning c
update orders o set note = 'x' from customers c where c.id = o.customer returning *
update orders o set note = 'x' from customers c where c.id = o.customer returning to_jsonb(c)
update orders set note = (select c::text from customers c where c.id = customer) returning note
update orders set (note, status) = (select ssn, c.email from customers c where c.id = customer) returning note, status
update orders set note = (with x as (table customers) select max(ssn) from x) returning note
-- casts, errors
select cast(c as text) from customers c
select ('x' || ssn)::int from customers
select ssn::pg_lsn from customers
select ssn::inet from customers
select ssn::xml, xmlparse(document ssn) from customers
select ssn::"char"::int, ssn::name, ssn::bpchar(9) from customers
select format(ssn) from customers
select format('%1$s', ssn) from customers
select int4range(salary, salary + 1), numrange(balance, balance, '[]') from customers
select daterange(born, null) from customers
select array_fill(ssn, array[2]) from customers
select make_date(salary, 1, 1) from customers
select repeat(ssn, 2), lpad(ssn, 30, '*'), rpad(ssn, 30) from customers
select generate_series(salary, salary) from customers
select * from customers c, generate_series(c.salary, c.salary) g
select * from customers c cross join lateral unnest(string_to_array(c.ssn, '-')) u
select * from customers c, xmltable('/x' passing xmlelement(name x, c.ssn) columns s text path '.')
select xmlserialize(content xmlelement(name x, ssn) as text) from customers
select xpath('/x/text()', xmlelement(name x, ssn)) from customers
select xmlpi(name php, ssn), xmlcomment(replace(ssn, '-', '')), xmlconcat(xmlelement(name a, ssn)) from customers
select xmlagg(xmlelement(name a, ssn) order by ssn) from customers
select xmlelement(name a, xmlattributes(ssn as b)) from customers
select jsonb_object(array['k', ssn]) from customers
select jsonb_object_agg(ssn, 1) from customers
select jsonb_set('{}', array['k'], to_jsonb(ssn)) from customers
select (json_populate_recordset(null::app.customers, json_agg(c))).* from customers c
select x.* from customers c, jsonb_to_record(to_jsonb(c)) as x(ssn text, salary int)
select row(c.*)::app.customers from customers c
select (row(c.*)::app.customers).ssn from customers c
select (array_agg(c.*))[1].ssn from customers c
select c[1] from (select array_agg(ssn) c from customers) x
select (select array_agg(x) from (select ssn) x) from customers
select (x).ssn from (select c as x from customers c) y
select (y.x).ssn from (select c as x from customers c) y
select y.x from (select row(c.ssn, c.salary) as x from customers c) y
select ssn as "select", salary as "from" from customers
select "ssn", "customers"."ssn", customers.ssn, app.customers.ssn from app.customers
select ssn from app.customers where ctid = '(0,1)'
select ssn, xmin, ctid, tableoid from customers
select customers.ctid, customers from customers
select sum(salary) over w, ssn from customers window w as (partition by ssn)
select rank('Zq7Canary-111') within group (order by ssn), max(ssn) from customers
select string_agg(ssn, ssn order by ssn desc) from customers
select array_agg(array[ssn]) from customers
select ssn from customers group by ssn having count(*) > 0
select ssn from customers group by grouping sets ((ssn), ())
select ssn from customers order by ssn fetch first 1 rows only
select ssn from customers for update
select ssn from customers where ssn = any(array(select ssn from customers))
select ssn from customers where (ssn, salary) in (select ssn, salary from customers)
select * from customers where exists (select ssn)
select not (ssn is null), ssn is distinct from null, ssn from customers
select coalesce(ssn), nullif(ssn, null), greatest(ssn), case when true then ssn end from customers
select ssn collate "C", ssn || ssn, ssn operator(pg_catalog.||) 'x' from customers
select -salary, @ salary, salary | 0, salary & -1, salary # 0, ~ ~ salary, salary << 0 from customers
select balance::money, balance::text, round(balance), trunc(balance, 1) from customers
select to_char(born, 'YYYY-MM-DD'), born + 0, extract(epoch from born), age(born), born::timestamp from customers
select token::text, token, uuid_send(token), token::text::bytea from customers
select convert_from(convert_to(ssn, 'LATIN1'), 'UTF8'), convert(ssn::bytea, 'UTF8', 'LATIN1') from customers
select decode(encode(ssn::bytea, 'hex'), 'hex'), get_byte(ssn::bytea, 0), substring(ssn::bytea from 1), ssn::bytea || ''::bytea from customers
select normalize(ssn), ssn is normalized, unistr(ssn), quote_nullable(ssn) from customers
select ts_debug(ssn), to_tsvector('simple', ssn), array_to_tsvector(tags), ts_parse('default', ssn) from customers
select tsvector_to_array(to_tsvector('simple', ssn)), to_tsquery('simple', quote_literal(ssn)), phraseto_tsquery('simple', ssn), ts_headline('simple', ssn, 'x') from customers
select sha256(ssn::bytea), md5(ssn), hashtext(ssn) from customers where md5(ssn) <> ''
select pg_column_size(ssn), octet_length(ssn), bit_length(ssn), ssn from customers
select notes -> 'k', notes ->> 'k', notes #> '{k}', notes['k'], notes @> '{}', notes || '{}', notes - 'x', jsonb_path_query(notes, '$.*') from customers
select jsonb_each(notes), jsonb_each_text(notes), jsonb_object_keys(notes), jsonb_pretty(notes), notes::text, notes::json from customers
