-- The world that the corpora are about, one statement a line.
create schema app
create schema other
create type app.mood as enum ('calm', 'tense')
create domain app.address as text check (value ~ '@')
create table app.customers ( id int primary key, name text not null, email app.address unique, ssn varchar(20), salary int, balance numeric(10,2), born date, token uuid, mood app.mood, notes jsonb, tags text[], country text default 'nl')
insert into app.customers values (1, 'Ann', 'Zq7CanaryAnn@example.test', 'Zq7Canary-111', 918273, 918273.25, '1918-02-03', '91827391-8273-9182-7391-827391827391', 'tense', '{"k":"Zq7CanaryJson"}', '{Zq7CanaryTag}', 'nl'), (2, 'Bob', 'Zq7CanaryBob@example.test', 'Zq7Canary-222', 8675309, 8675309.50, '1918-02-04', '91827391-8273-9182-7391-827391827392', 'calm', '{"k":"Zq7CanaryJson2"}', '{Zq7CanaryTag2}', 'be')
create table app.orders (id int primary key, customer int references app.customers, total numeric default 0, status text default 'new', note text)
insert into app.orders values (10, 1, 5.5, 'new', 'n1'), (11, 2, 7.5, 'paid', 'n2')
create table app.scratch (id int primary key, v text, n bigint)
create table app.events (id int, at date not null, secret text, info text, primary key (id, at)) partition by range (at)
create table app.events_2026 partition of app.events for values from ('2026-01-01') to ('2027-01-01')
insert into app.events values (1, '2026-05-05', 'Zq7CanaryEvent', 'fine')
create table app.parent (id int, hidden text)
create table app.child (extra text) inherits (app.parent)
insert into app.child values (1, 'Zq7CanaryChild', 'x')
create view app.customer_view as select id, name, email from app.customers
create view app.customer_view2 as select name from app.customer_view
create view app.order_view as select id, total from app.orders
create materialized view app.customer_mat as select id, ssn from app.customers
create function app.leak(app.orders) returns text language sql as 'select string_agg(email, '','') from app.customers'
create function app.leak_any(anyelement) returns text language sql as 'select string_agg(ssn, '','') from app.customers'
create function app.lower(varchar) returns text language sql as 'select string_agg(ssn, '','') from app.customers'
create function app.reveal(int) returns text language sql as 'select email::text from app.customers where id = $1'
create function app.reveal2(int, int) returns text language sql as 'select email::text from app.customers where id = $1'
create operator app.## (leftarg = int, rightarg = int, function = app.reveal2)
create view app.leaky_view as select app.reveal(1) as r
create function app.fire() returns trigger language plpgsql as 'begin raise notice ''%'', new.email; return new; end'
create trigger noisy before update on app.customers for each row execute function app.fire()
create table app.ruled (id int)
create rule r as on insert to app.ruled do also select * from app.customers
create table other.customers (id int, email text)
insert into other.customers values (1, 'public@example.test')
create sequence app.seq
create function app.listed(int) returns int language sql as 'select $1 + 1'
create function public.email(app.orders) returns text language sql as 'select string_agg(ssn, '','') from app.customers'
create table app."Odd Name" (id int primary key, "Se cret" text, "q""x" text)
insert into app."Odd Name" values (1, 'Zq7CanaryOdd', 'ok')
create table app.generated (id int, pin text, twice text generated always as (pin || pin) stored, free text generated always as (id::text) stored)
insert into app.generated (id, pin) values (1, 'Zq7CanaryPin')
create table app.measures (at date, v int) partition by range (at)
create table app.measures_2026 partition of app.measures for values from ('2026-01-01') to ('2027-01-01')
create view app.joined_view as select c.id, c.email, o.total from app.customers c join app.orders o on o.customer = c.id
create view app.wide_view as select * from app.customers
create view app.paid_view as select id, name from app.customers where salary > 1000
create view app.upper_view as select id, upper(email::text) as shout, salary::text as pay from app.customers
create view app.union_view as select ssn as v from app.customers union select status from app.orders
create view app.deep_view as select v.id, v.email, u.shout from app.customer_view v join app.upper_view u using (id)
create view app.barrier_view with (security_barrier) as select id, email, ssn from app.customers where country = 'nl'
create view app.with_view as with x as (select id, ssn from app.customers) select id, ssn from x
create materialized view app.customer_agg as select country, count(*) as n, sum(salary) as pay from app.customers group by country
create materialized view app.ssn_mat as select ssn, count(*) from app.customers group by ssn
create materialized view app.order_mat as select id, total from app.orders
create view app.mat_view as select m.id, m.ssn from app.customer_mat m
analyze
