-- Questions about masked values whose answers do not show them, one sequence a line. Over two databases that differ in masked
-- values alone, and in nothing that their sizes show, the answers must be the same. Directly each tells them apart, but "!".
select count(*) from customers where ssn like 'Zq7%'
select id from customers where ssn = 'Zq7Canary-111'
select id from customers order by ssn, id
select id from customers order by salary, id
select id from customers where salary > 1000000
select exists (select 1 from customers where email = 'Zq7CanaryAnn@example.test')
select exists (select from customers where notes @> '{"k":"Zq7CanaryJson"}')
select id from customers where 'Zq7CanaryTag' = any (tags)
! select id from customers where tags[1] > 'a'
select bool_or(balance > 1000) from customers
select id, rank() over (order by salary) from customers order by id
select a.id, b.id from customers a join customers b on a.salary < b.salary
select id from customers where 1 / (salary - 918273) < 2
select 1 / (salary - 918273) from customers where id = 1
! select case when salary > 1000000 then 1 / 0 else 1 end from customers
select id from customers where (select ssn like 'Zq7%')
! select c.id from customers c where row(c.ssn, 1) < row('Zz', 1)
select c.id from customers c where c::text like '%Zq7%'
select c.id from customers c where to_jsonb(c) @> '{"salary": 918273}'
select c.id from customers c where hashtext(ssn) = hashtext('Zq7Canary-111')
select count(*) from customers group by salary > 1000000
select id from customers where born < '1918-02-04'
select id from customers where token < '95000000-0000-0000-0000-000000000000'
select id from customers where ssn ~ '^Zq7' and ssn collate "C" > 'A'
select id from customers where ssn between 'Zq' and 'Zr'
select id from customers where position('7' in ssn) = 3
select id from customers where ssn similar to 'Z%'
select string_agg(id::text, ',' order by ssn desc) from customers
select (array_agg(id order by salary))[1] from customers
select mode() within group (order by salary) = 918273 from customers
select id from customers limit (select case when max(salary) > 1000000 then 1 else 2 end from customers)
select id from customers c where exists (select 1 from customers d where d.id = c.id and d.ssn like 'Zq7%')
select id from orders where customer in (select id from customers where ssn like 'Zq7%')
select id from orders o where (select salary from customers c where c.id = o.customer) > 1000000
with x as (select id from customers where ssn like 'Zq7%') select count(*) from x
with recursive r(id) as (select 1 union select c.id from customers c, r where c.salary > 1000000) select count(*) from r
select id from customers where ssn like 'Zq7%' union select 99
select count(*) from customers where ssn in ('Zq7Canary-111', 'x')
select count(*) from (select 1 from customers where salary = 918273 for update) x
select nextval('app.seq') from customers where salary > 1000000 ;; select last_value from app.seq
select count(pg_advisory_xact_lock(salary)) from customers where salary = 918273 ;; select count(*) from pg_locks where locktype = 'advisory' and objid = 918273 and pid = pg_backend_pid()
update customers set country = 'x' where salary > 1000000
update customers set country = 'x' where ssn like 'Zq7%' returning id
update orders set note = 'x' where customer in (select id from customers where salary > 1000000)
update orders o set note = 'x' from customers c where c.id = o.customer and c.ssn like 'Zq7%' returning o.id
update customer_view set name = 'x' where email like 'Zq7%'
delete from customers where ssn = 'Zq7Canary-111'
delete from orders using customers c where c.id = customer and c.salary > 1000000
delete from orders where exists (select 1 from customers where ssn like 'Zq7%')
insert into scratch (id) select id from customers where ssn like 'Zq7%'
insert into customers (id, name, email) values (50, 'x', 'Zq7CanaryAnn@example.test') on conflict do nothing
insert into customers (id, name, email) values (50, 'x', 'Zq7CanaryAnn@example.test') on conflict (email) do nothing
insert into customers (id, name, email) values (50, 'x', 'Zq7CanaryAnn@example.test') on conflict on constraint customers_email_key do nothing
insert into customers (id, name, email) values (50, 'x', 'Zq7CanaryAnn@example.test') on conflict (email) do update set name = 'y' returning id
insert into customer_view (id, name, email) values (50, 'x', 'Zq7CanaryAnn@example.test') on conflict do nothing
insert into customers (id, name) values (1, 'x') on conflict (id) do update set name = 'y' where customers.salary > 0
! merge into scratch s using customers c on c.ssn = 'Zq7Canary-111' when not matched then insert (id) values (c.id)
merge into customers c using orders o on c.id = o.customer and c.salary > 1000000 when matched then update set country = 'x'
merge into orders o using customers c on o.customer = c.id when matched and c.salary > 1000000 then delete
create temp table t as select id from customers where salary > 1000000
! create temp table t (id int references app.customers (id), e text references app.customers (email))
! create table app.t (e app.address references app.customers (email))
create unique index on customers (left(ssn, 3))
alter table app.customers add check (salary < 1000000)
explain (costs off, analyze, timing off, summary off) select id from customers where ssn = 'Zq7Canary-111'
explain (costs off, analyze, timing off, summary off) select id from customers where salary > 1000000
! explain select * from customers where salary > 1000000
! explain select * from customers where ssn = 'Zq7Canary-111'
declare c cursor for select id from customers where salary > 1000000 ;; move all in c
prepare p (text) as select id from customers where ssn = $1 ;; execute p ('Zq7Canary-111')
copy (select id from customers where salary > 1000000) to stdout
select * from paid_view
select count(*) from paid_view
select id from paid_view where name = 'Ann'
select id from upper_view where shout like 'ZQ7%'
select id from deep_view order by shout, id
select count(*) from union_view where v like 'Zq7%'
select id from customer_view where email like 'Zq7%'
select id from customer_mat where ssn like 'Zq7%'
select id from mat_view order by ssn, id
! select n from customer_agg order by pay
select id from barrier_view where email like 'Zq7%'
select id from events where secret like 'Zq7%'
select id from events_2026 where secret like 'Zq7%'
select id from parent where hidden like 'Zq7%'
select id from generated where twice like 'Zq7%'
select most_common_vals is null from pg_stats where tablename = 'customers' and attname = 'ssn' and histogram_bounds::text like '%Zq7%'
select count(*) from pg_catalog.pg_stats where histogram_bounds::text like '%Zq7%'
select pg_column_size(ssn), length(ssn), octet_length(ssn) from customers
select pg_column_size(c) from customers c
! select count(distinct left(ssn, 1)) from customers
select id from customers group by id, ssn order by ssn, id
select width_bucket(salary, 0, 10000000, 4) from customers
select min(id) filter (where salary > 1000000) from customers
select num_nulls(nullif(salary, 918273)) from customers
select id from customers where ssn is not null and length(ssn) = 13
select bit_and(salary), count(*) filter (where salary % 2 = 0) from customers
select id from customers tablesample bernoulli (100) where salary > 1000000
select id from only customers where salary > 1000000
