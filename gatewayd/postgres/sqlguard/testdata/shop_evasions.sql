-- As evasions.sql, over shop.sql: one sequence a line, ";;" between texts. Directly each shows a canary, but for those that start with "!",
-- which need a newer server, or are kept because they might.
-- Errors: casts, domains, overflow, parsing of what a value holds.
select phone::int from users where id = 1
select cast(full_name as numeric) from users
select ('x' || phone)::uuid from users where id = 1
select phone::date from users where id = 1
select password_hash::timestamptz from users where id = 1
select phone::boolean from users where id = 1
select phone::inet from users where id = 1
select phone::interval from users where id = 1
select iban::text::point from users where id = 1
select ('{' || phone)::int[] from users where id = 1
select ('[' || phone || ',')::int4range from users where id = 1
select phone::json from users where id = 1
select phone::jsonb from users where id = 1
select ('"' || phone)::json from users where id = 1
select ('<a>' || phone)::xml from users where id = 1
select xmlparse(document '<a>' || phone) from users where id = 1
select phone::regclass from users where id = 1
select phone::regtype from users where id = 1
select phone::regproc from users where id = 1
select phone::regrole from users where id = 1
select phone::gender from users where id = 1
select phone::pg_lsn from users where id = 1
select phone::money from users where id = 1
select phone::macaddr from users where id = 1
select phone::tid from users where id = 1
! select to_number(phone, 'XX') || phone from users where id = 1
! select to_timestamp(phone, 'YYYY-MM') from users where id = 1
select make_date(pin, 1, 1) , pin from users where id = 1
select 1 / (pin - 918273), pin from users where id = 2
select chr(pin), pin from users where id = 2
select set_byte('\x00'::bytea, 0, 1), substr(photo, 1, 9) from users where id = 1
! select regexp_replace('x', phone || '(', '') from users where id = 1
select 'x' like (phone || '\'), phone from users where id = 1
select convert_from(photo, phone) from users where id = 1
select encode(photo, phone) from users where id = 1
! select extract(phone from now()) from users
select date_part(phone, now()) from users where id = 1
select date_trunc(phone, now()) from users where id = 1
select to_tsvector(phone::regconfig, 'x') from users where id = 1
select nextval(phone) from users where id = 1
! select setval('ts', pin), pin from users where id = 1
! select decode(phone, 'base64') from users where id = 1
! select format('%' || phone, 1) from users where id = 1
select lpad('x', 5, phone) || phone from users where id = 1
select crypt('x', phone), phone from users where id = 1
select digest('x', phone) from users where id = 1
! select array_fill(1, array[pin, pin]) from users where id = 2 union all select codes from users where id = 1
! select hstore(phone) from users where id = 1
! select ('(' || phone)::lquery from users where id = 1
select ts_rewrite('a'::tsquery, phone) from users where id = 1
select set_config('work_mem', phone, false) from users where id = 1
select set_config('TimeZone', phone, true) from users where id = 1
select set_config('application_name', phone, false) from users where id = 1
select set_config('my.var', phone, false) from users where id = 1 ;; select current_setting('my.var')
select set_config('search_path', phone, false) from users where id = 1 ;; show search_path
-- Constraint and DML errors.
! insert into users (login, email, phone) select 'ann', 'q@x.test', phone from users where id = 1
insert into bag (id) select pin from users where id = 1 returning id
insert into bag (id, v) select 1, phone from users where id = 1 ;; select v from bag
insert into bag (id, v) values (1, (select phone from users where id = 1)) returning v
insert into bag values (1, 'a'), (2, 'b') ;; update bag set v = (select phone from users u where u.id = bag.id) returning v
insert into accounts (user_id, kind) select pin, 'z' from users where id = 1
! insert into hr.depts (id, title) select 9, null::text from users where phone like 'Zq7%' ;; select phone from users
insert into users (login, email, stay) values ('q', 'q@x.test', '[1918-02-05,1918-02-06)')
! insert into users (login, email) values ('q', 'ZQ7canaryann@EXAMPLE.test')
insert into web_sessions values ('91827391-8273-9182-7391-827391827391', 9, 'x')
update users set login = phone where id = 1 returning login
! update users set login = 'ann' where phone like 'Zq7%' returning login, phone
update users set pin = -pin where id = 1
update users set login = null where id = 1
update users set plan = null where id = 2
update users set phone = phone where id = 1 returning *
! update users set manager = 999 where id = 1 returning phone
update accounts a set note = u.phone from users u where u.id = a.user_id returning a.note
update accounts set (note, kind) = (select phone, full_name from users where users.id = user_id) where user_id = 1 returning note
update user_list set plan = email where id = 1 returning plan
! delete from users using accounts a where a.user_id = users.id and users.phone > '' returning users.phone
delete from users where id = 12 returning users
delete from payments returning card
delete from accounts using users u where u.id = accounts.user_id returning u.phone
delete from user_list where id = 12 returning email
merge into bag using users u on bag.id = u.id when not matched then insert (id, v) values (u.id, u.phone) ;; select v from bag
merge into accounts a using users u on a.user_id = u.id when matched then update set note = u.phone ;; select note from accounts
merge into users using (values (1)) v(i) on users.id = v.i when matched and users.phone like 'Zq7%' then update set plan = users.phone ;; select plan from users where id = 1
merge into users u using (values (1)) v(i) on u.id = v.i when matched then update set plan = u.password_hash ;; select plan from users where id = 1
insert into accounts (user_id, kind) values (1, 'basic') on conflict (user_id, kind) do update set note = (select phone from users where id = 1) returning note
insert into users (id, login, email) values (1, 'ann', 'x@x.test') on conflict (id) do update set plan = users.phone returning plan
insert into users (id, login, email) values (1, 'ann', 'x@x.test') on conflict (login) do update set plan = excluded.plan where users.phone like 'Zq7%' returning users.phone
insert into users (id, login, email) values (1, 'a', 'Zq7CanaryBob@example.test') on conflict (id) do update set email = excluded.email returning *
insert into users (login, email, phone) values ('n', 'n@x.test', (select phone from users where id = 1)) returning phone
! alter table users add constraint c check (phone = 'x')
! alter table users alter column phone type int using phone::int
alter table users validate constraint users_pin_check ;; select phone from users
create unique index on users (full_name)
! create unique index on accounts (user_id) ;; select phone from users
! create index on users ((1 / (pin - 918273))) ;; select pin from users
create index on bag ((v::int)) ;; insert into bag (id, v) select 1, phone from users where id = 1
alter table bag add check (v = '') ;; insert into bag (id, v) select 1, phone from users where id = 1
create temp table t (v text check (v = '')) ;; insert into t select phone from users
create temp table t (v text unique) ;; insert into t select phone from users ;; insert into t select phone from users
create temp table t as select phone as v from users ;; select v from t
create temp table t (v text not null, n int) ;; insert into t select null, pin from users
create temp table t (like users including all) ;; insert into t select * from users ;; select * from t
create temp table t (v text generated always as (upper(p)) stored, p text) ;; insert into t (p) select phone from users ;; select v from t
create temp table t as table users with no data ;; insert into t table users ;; table t
select * into temp t from users ;; table t
select phone into temporary table t from users ;; select * from t
-- Projections and shapes.
select u from users u
select users from users
select users.* from users where id = 1
select (users).phone from users
select (u.*).phone from users u
select (select u.phone) from users u
select row(u.*) from users u
select array_agg(u) from users u
select row_to_json(u) from users u
select to_jsonb(u) -> 'phone' from users u
select jsonb_agg(u) from users u
select json_object_agg(id, u) from users u
select u::text from users u where id = 1
select hstore(u) from users u
select (hstore(u) -> 'phone') from users u
select each(hstore(u)) from users u
select jsonb_each_text(to_jsonb(u)) from users u
! select (jsonb_populate_record(null::users, to_jsonb(u))).phone from users u
select * from users u, jsonb_to_record(to_jsonb(u)) as r(phone text)
select concat(u) from users u
select concat_ws('/', u.*) from users u
select format('%s', u) from users u
select format('%2$s %1$I', phone, iban) from users
select num_nulls(phone), phone from users
select coalesce(null, phone) from users
select greatest(phone, '') from users
select nullif(phone, '') from users
select case when true then phone end from users
select phone as login from users
select login as phone, phone as login from users
select t.a from (select phone from users) as t(a)
select a3 from users as u(a1, a2, a3, a4)
select a4 from users as u(a1, a2, a3, a4)
select u.c from (values (1)) v(id) join users as u(id, b, d, c) using (id)
select j.phone from (users u join accounts a on a.user_id = u.id) as j
select j.* from (users u join accounts a on a.user_id = u.id) j(x1, x2, x3, x4) where x1 = 1
select x.phone from users natural join lateral (select users.id, users.phone as p2) x(id, phone)
select l.p from users u cross join lateral (select u.phone) l(p)
select l from users u, lateral (values (u.phone, u.pin)) l
select * from users where phone in (select phone from users) and id = 1
select phone from users union select login from users
select login from users where id = -1 union all select phone from users
! (table users) except (select * from users where false)
select phone from users intersect select phone from users
values ((select phone from users where id = 1))
table users
table only users
select * from only users
select * from users tablesample system (100)
select * from users tablesample bernoulli (100) repeatable (1)
with u as (select * from users) select u from u
with u as not materialized (table users) select phone from u
with users as (select * from users) select phone from users
with users as materialized (select phone from public.users) select * from users
with recursive r as (select id, phone from users where id = 1 union all select u.id, u.phone from users u join r on u.manager = r.id) select phone from r
with recursive r(id, p) as (select id, phone from users where id = 1 union select u.id, r.p from users u, r where u.manager = r.id) search depth first by p set ord select ord from r
with recursive r(id, p) as (select id, phone from users where id = 1 union all select u.id, u.phone from users u, r where u.manager = r.id) cycle p set c using path select path from r
with d as (delete from payments returning card) select * from d
with i as (insert into bag (id, v) select id, phone from users returning v) select v from i
with up as (update users set plan = 'x' returning phone) select phone from up
with m as materialized (select ctid, u.* from users u) select phone from m
select ctid, tableoid, xmin, phone from users
select * from payments_eur
select card from only payments_usd
select cents from payments
select payments from payments
select code, label from secrets_by_day_1
select tableoid::regclass, secrets_by_day from secrets_by_day
select distinct phone from users
select distinct on (phone) phone from users order by phone
select phone from users group by phone
select phone, count(*) from users group by grouping sets ((phone), ())
select phone from users group by rollup (phone)
select phone, grouping(phone) from users group by cube (phone, plan)
select count(*), phone from users group by 2
select id from users order by phone offset 0 fetch first row with ties ;; select phone from users
select min(phone), max(phone) from users
select string_agg(phone, ',' order by phone) from users
select array_agg(phone) from users
select array_agg(distinct codes) from users where id = 1
select sum(pin) filter (where id = 1) from users
select avg(pin)::int from users where id = 1
select stddev(pin), min(pin) from users
select mode() within group (order by phone) from users
select percentile_disc(0) within group (order by pin) from users
select percentile_cont(0) within group (order by score) from users
select bit_or(pin) from users where id = 1
select range_agg(stay) from users
select xmlagg(page) from users
select xmlforest(phone, pin) from users
select xmlelement(name a, xmlattributes(phone as p)) from users
select xmlserialize(content page as text) from users
select xmlconcat(page, '<x/>') from users
select xpath('//m/text()', page) from users
select x.* from users, xmltable('/u' passing page columns m text path 'm') x
select * from users, json_array_elements(json_build_array(phone)) e
select jsonb_path_query(doc, '$.k') from users
select jsonb_path_query_array(doc, '$.** ? (@ like_regex "^Zq7")') from users
select doc -> 'a' -> 0, doc #>> '{k}', doc ->> 'k' from users
select doc['k'] from users
select jsonb_pretty(doc) from users
select jsonb_set('{}', '{a}', doc -> 'k') from users
select jsonb_insert('{}', '{a}', doc) from users
select attrs -> 'k' from users
select attrs['k'] from users
select akeys(attrs) || avals(attrs) from users
select (each(attrs)).value from users
select slice(attrs, array['k']) from users
select (home).street from users
select home::text from users
! select u.home.street from users u
select (u.home).* from users u
select ((home)).city, (home).street from users
select codes[1], codes[1:2], array_to_string(codes, ',') from users
select unnest(codes) from users where id = 1
select c from users, unnest(codes) with ordinality t(c, o) where id = 1
select array_position(codes, 918273), codes from users where id = 1
select codes + 1 from users where id = 1
select sort(codes) from users where id = 1
select lower(stay), upper(stay) from users where id = 1
select isempty(stay), stay from users where id = 1
select stay * daterange('1900-01-01', '2000-01-01') from users where id = 1
select multirange(stay) from users where id = 1
select subltree(path, 1, 2) from users where id = 1
select path || 'x' from users where id = 1
select ip + 1, host(ip), network(ip), phone from users
select ts_headline('Zq7', phone::tsquery) || phone from users where id = 1
select tsvector_to_array(search) from users where id = 1
select strip(search) from users where id = 1
select unnest(search) from users where id = 1
select ts_delete(search, 'zz') from users where id = 1
select ts_rank(search, 'Zq7CanaryLex'), search from users where id = 1
select * from ts_stat('select search from users')
select * from ts_debug('simple', (select phone from users where id = 1))
select * from ts_parse('default', (select phone from users where id = 1))
select birth + 0, birth - date '1900-01-01', phone from users
select to_char(birth, 'YYYY-MM-DD') from users
select age(birth), birth from users
select extract(epoch from seen), seen::date from users where id = 1
select to_char(pin, '999999999') from users where id = 1
select pin::text from users where id = 1
select pin # 0 from users where id = 1
select -(-pin) from users where id = 1
select score::numeric from users where id = 1
select width_bucket(pin, 0, 10000000, 10000000), pin from users where id = 1
select generate_series(pin, pin) from users where id = 1
select repeat('x', 3) || reverse(phone) from users
select translate(phone, 'Z', 'Z') from users
select left(phone, 3) || substr(phone, 4) from users
select overlay(phone placing '' from 99) from users
select split_part(phone, '-', 1) from users
select regexp_split_to_table(phone, '-') from users
select regexp_matches(phone, '^(.*)$') from users
select substring(phone from '^(Zq7.*)$') from users
select string_to_array(phone, '') from users where id = 1
select string_to_table(phone, '-') from users where id = 1
select encode(convert_to(phone, 'UTF8'), 'hex') from users
select encode(phone::bytea, 'base64') from users where id = 1
select md5(email::text) from users where id = 1
select quote_literal(phone), quote_ident(phone), quote_nullable(phone) from users
select initcap(phone), upper(phone), lower(phone) from users
select unaccent(phone) from users
select show_trgm(phone), phone from users
select soundex(phone), metaphone(phone, 4), dmetaphone(phone), phone from users
select levenshtein(phone, ''), phone from users
! select encrypt(photo, 'k', 'bf'), photo from users where id = 1
select pgp_sym_decrypt(pgp_sym_encrypt(phone, 'k'), 'k') from users where id = 1
select armor(phone::bytea) , phone from users where id = 1
select lo_from_bytea(0, photo) from users where id = 1 ;; select data from pg_largeobject
! select lo_get(lo_from_bytea(0, photo)) from users where id = 1
select lag(phone) over (order by id) from users
select first_value(phone) over (order by id) from users
select nth_value(phone, 1) over w from users window w as (order by id)
select max(pin) over (partition by phone) from users
select string_agg(phone, '') over () from users
select phone || '' from users
select phone is not null, phone from users
select phone collate "C" from users
select (phone) from users
select "phone" from "users"
select "public"."users"."phone" from "public"."users"
select public.users.phone from public.users
select U&"ph\006Fne" from U&"us\0065rs"
select U&"ph!006Fne" uescape '!' from users
select PHONE from USERS
select/**/phone/*/* nested */*/from/**/users--x
select phone from/* ; */users
select phone from users -- 'x
select E'\x27', phone from users
select $$a$$, phone from users where login = $q$ann$q$
select 'it''s', phone from users
select phone from users; select 1
select 1; select phone from users; select 2
begin; select phone from users; commit
; ;; select phone from users
-- SQL in strings, functions of the system that run it, and other roads.
select query_to_xml('select phone from users', true, true, '')
select table_to_xml('users', true, true, '')
select schema_to_xml('public', true, true, '')
select database_to_xml(true, true, '')
select query_to_xml_and_xmlschema('table users', true, true, '')
begin ;; declare c cursor for select phone from users ;; select cursor_to_xml('c', 10, true, true, '')
select * from crosstab('select login, plan, phone from users order by 1') as c(a text, b text)
! select * from dblink('dbname=' || current_database() || ' user=' || current_user || ' password=x', 'select phone from users') as t(p text)
! select xpath_table('id', 'page', 'users', '/u/m', 'true') from users
! select * from xpath_table('id', 'phone', 'users', '/u/m', 'true') as t(id int, m text)
select email_of(1)
select email_of(id) from users
select public.email_of(1::bigint)
! select a.opened from accounts as a(x1, x2, x3)
! select (a).opened from accounts as a(x1, x2, x3)
select j.opened from (accounts as j(x1, x2, x3) cross join notes)
! with a as (select x from accounts as x(x1, x2, x3)) select (x).opened from a
select a.opened from accounts as a(x1, x2, x3), lateral (select a.x1) as b(opened)
update bag set v = a.opened from accounts as a(x1, x2, x3) returning v
select opened(a) from accounts a
select t.email_of from (select 1::bigint as id) t, lateral email_of(t.id)
select * from email_of(1)
do $$ begin raise notice '%', (select phone from users where id = 1); end $$
do language plpgsql 'begin raise exception ''%'', (select phone from users where id = 1); end'
create function pg_temp.f() returns text language sql as 'select phone from users where id = 1' ;; select pg_temp.f()
create function f() returns text language sql as 'select phone from users where id = 1' ;; select f()
create function f(t text) returns bool language plpgsql cost 0.0001 as 'begin raise notice ''%'', t; return true; end' ;; select 1 from users where f(phone)
create procedure p() language sql as 'select 1' ;; create or replace function f() returns setof users begin atomic; table users; end ;; select phone from f()
create aggregate public.cat(text) (sfunc = textcat, stype = text, initcond = '') ;; select cat(phone) from users
create operator public.=== (leftarg = text, rightarg = text, function = texteq) ;; select phone === phone, phone from users
! create cast (gender as int) without function ;; select phone from users
create temp view v as select phone from users ;; select * from v
create or replace temp view login_view as select phone as login from users ;; select * from login_view
create view v as select phone from users ;; select * from v
create materialized view m as select phone from users ;; select * from m
! create rule "_RETURN" as on select to bag do instead select 1 ;; select phone from users
create rule r as on update to bag do also select phone from users ;; update bag set v = ''
create rule r as on insert to bag do instead select phone as v from users ;; insert into bag (id) values (1)
create trigger t before insert on bag for each row execute function suppress_redundant_updates_trigger() ;; select phone from users
create table c () inherits (users) ;; select phone from users
create table p2 partition of payments default ;; select card from payments
create table twin (like users including all) ;; insert into twin table users ;; table twin
create table twin as select * from users ;; select phone from twin
create table twin as select phone as p from users ;; select p from twin
! alter table bag inherit users ;; select phone from users
alter table users rename to people ;; select phone from people
alter table users rename phone to login2 ;; select login2 from users
alter table users set schema hr ;; select phone from hr.users
alter table payments detach partition payments_eur ;; select card from payments_eur
alter view login_view rename to lv ;; select phone from users
create or replace view login_view as select id, phone as login, plan from users ;; select login from login_view
alter schema hr rename to hr2 ;; select ssn from hr2.staff
alter table users add column copy text generated always as (phone) stored ;; select copy from users
alter table users add column extra text default 'x' ;; select phone, extra from users
alter table users alter phone set default 'x' ;; insert into users (login, email) values ('q', 'q@x.test') ;; select phone from users where id = 1
grant select on users to public ;; select phone from users
create policy p on users using (phone like 'Zq7%') ;; select phone from users
create publication p for table users ;; select phone from users
create statistics s1 on phone, pin from users ;; analyze users ;; select stxdmcv from pg_statistic_ext_data
analyze users ;; select most_common_vals from pg_stats where tablename = 'users'
select most_common_vals::text::text[] from pg_stats where tablename = 'users'
select histogram_bounds from pg_stats where attname = 'phone'
select stavalues1 from pg_statistic where starelid = 'users'::regclass
select * from pg_catalog.pg_statistic
select most_common_vals from pg_stats_ext
select pg_mcv_list_items(stxdmcv) from pg_statistic_ext_data
select s.* from pg_statistic_ext_data d, pg_mcv_list_items(d.stxdmcv) s
select * from "pg_stats" where tablename = 'users'
select p from pg_stats p where tablename = 'users'
select * from heap_page_items(get_raw_page('users', 0))
select get_raw_page('users', 0)
select tuple_data_split('users'::regclass, t_data, t_infomask, t_infomask2, t_bits) from heap_page_items(get_raw_page('users', 0))
select * from bt_page_items('users_email_key', 1)
! select pg_read_binary_file(pg_relation_filepath('users'))
copy users to stdout
copy users (phone) to stdout
copy users (login, phone) to stdout with (format csv, header)
copy users to stdout (format binary)
copy (select phone from users) to stdout with csv force quote *
copy (table users) to stdout with (delimiter '|', null '-')
copy (update users set plan = 'x' returning phone) to stdout
copy (delete from payments returning card) to stdout
copy (with x as (select * from users) select phone from x) to stdout
copy payments_eur to stdout
copy hr.staff to stdout
! copy users to program 'cat 1>&2'
copy users to '/tmp/sallyport_copy' ;; select pg_read_file('/tmp/sallyport_copy')
copy bag (v) from program 'echo Zq7CanaryX' ;; select v, phone from bag, users
begin ;; declare c cursor with hold for select phone from users ;; commit ;; fetch all c
begin ;; declare c scroll cursor for table users ;; fetch first c ;; fetch last c ;; move absolute 2 c ;; fetch prior c
begin ;; declare c binary cursor for select phone, pin from users ;; fetch all in c
begin ;; declare c cursor for select * from users for update ;; fetch 1 c ;; update users set plan = phone where current of c returning plan
prepare q as select phone from users where id = $1 ;; execute q(1)
prepare q (bigint) as select users from users where id = $1 ;; execute q(1)
prepare q as update users set plan = 'x' where id = 1 returning phone ;; execute q
prepare q as select phone from users ;; create temp table t as execute q ;; select * from t
prepare q as select phone from users ;; explain analyze execute q ;; execute q
! prepare q (text) as select $1 ;; execute q((select phone from users where id = 1))
prepare q as select v from bag ;; alter table bag rename to bag2 ;; alter table users rename to bag ;; alter table bag rename phone to v ;; execute q
create temp table users (phone text) ;; insert into users select phone from public.users ;; select phone from users
create temp table bag as select 1 as id, phone as v from users ;; select v from bag
set search_path = hr ;; select ssn from staff
set search_path = pg_temp, public ;; select phone from users
set search_path to 'public' ;; create schema z ;; set search_path = z, public ;; select phone from users
set local search_path = hr, public ;; select phone, ssn from users, staff
begin ;; set local search_path = hr ;; select ssn from staff
create schema "$user" ;; select phone from users
! set standard_conforming_strings = off ;; select '\' || phone || '' from users --'
set backslash_quote = on ;; select phone from users
set client_encoding = 'SJIS' ;; select phone from users
set client_encoding = latin1 ;; select phone from users
set bytea_output = escape ;; select photo, phone from users
set xmloption = document ;; select page, phone from users
set datestyle = german ;; select phone, birth from users
set intervalstyle = iso_8601 ;; select quota, phone from users where id = 1
set lc_messages = 'C' ;; select phone::int from users
set role none ;; select phone from users
set session authorization default ;; select phone from users
! set debug_print_plan = on ;; set client_min_messages = log ;; select phone from users where phone = 'x' || login
set client_min_messages = debug5 ;; select phone from users
! set log_statement = 'all' ;; set client_min_messages = log ;; prepare q (text) as select $1 ;; execute q((select phone from users where id = 1))
set row_security = off ;; select ssn from hr.staff
! reset all ;; select phone from users
set constraints all deferred ;; select phone from users
set session characteristics as transaction read only ;; select phone from users
set transform_null_equals = on ;; select phone from users where phone = null or true
set plan_cache_mode = force_generic_plan ;; prepare q (text) as select phone from users where phone > $1 ;; execute q('')
set statement_timeout = 10000 ;; select phone from users
load 'auto_explain' ;; select phone from users
explain (verbose, costs off) select * from users where phone = (select phone from users where id = 1) ;; select phone from users
explain analyze select phone::int from users
explain (analyze, verbose, buffers) select max(phone), (select max(phone) from users) from users group by phone::int
explain (format json, verbose) select phone from users ;; select phone from users
explain (analyze) create table twin as select phone from users ;; select phone from twin
explain analyze update users set plan = phone where id = 1 ;; select plan from users where id = 1
! select * from pg_prepared_statements, users
select statement from pg_cursors union all select phone from users
select query from pg_stat_activity where pid = pg_backend_pid() union all select phone from users
! select pg_notify('x', phone) from users ;; listen x
! listen x ;; select pg_notify('x', phone) from users where id = 1
select pg_logical_emit_message(true, 'x', phone), phone from users
select pg_advisory_lock(pin) from users where id = 1 ;; select objid from pg_locks where locktype = 'advisory'
select pg_try_advisory_xact_lock(pin), pin from users where id = 1
create temp sequence ts ;; select currval('ts') from (select setval('ts', pin) from users where id = 1) x
select last_value from accounts_id_seq union select pin from users where id = 1
select setseed(1.0 / pin), random(), pin from users where id = 1
select pg_sleep(0), phone from users
select txid_current(), phone from users
select pg_typeof(phone), phone from users
select pg_column_size(phone), phone from users
select pg_get_expr(adbin, adrelid), phone from pg_attrdef, users
select col_description('users'::regclass, 4), phone from users
! select pg_input_is_valid(phone, 'int'), phone from users
! select pg_input_error_info(phone, 'int') from users where id = 1
! select (pg_input_error_info(phone, 'int')).message from users where id = 1
comment on table bag is 'x' ;; select phone from users
lock table users ;; select phone from users
! truncate users cascade ;; select card from payments
! vacuum verbose users
cluster users using users_pkey ;; select phone from users
reindex table users ;; select phone from users
refresh materialized view user_mat ;; select phone from user_mat
refresh materialized view plan_mat ;; select top from plan_mat
! import foreign schema public from server x into hr ;; select phone from users
create extension if not exists file_fdw ;; select phone from users
create extension postgres_fdw ;; create server s foreign data wrapper postgres_fdw ;; select phone from users
! create event trigger e on ddl_command_end execute function touch() ;; select phone from users
begin ;; select phone from users ;; savepoint a ;; select phone::int from users ;; rollback to a ;; select phone from users
begin isolation level serializable read only deferrable ;; select phone from users
start transaction ;; prepare transaction 'x' ;; select phone from users
-- Views, materialised and others; rules on them; what depends on them.
select email from user_list
select user_list from user_list
select salary from pay_view
select pay_view::text from pay_view
select top from ranked_view
select r, login, top from ranked_view
select class, "both" from case_view
select "both" from case_view
select phone from user_mat
select user_mat from user_mat
select doc ->> 'k' from user_mat
select top from plan_mat
table plan_mat
select v.email from user_list v join accounts a on a.user_id = v.id
select * from user_list natural join users
! copy user_mat to stdout
copy (select * from user_list) to stdout
update user_list set plan = 'x' returning email
insert into user_list (login, email) values ('n', (select phone || '@x' from users where id = 1)) returning email
! merge into user_list v using accounts a on a.user_id = v.id and a.kind = 'basic' when matched then update set plan = v.email ;; select plan from users
select * from hr.staff
select salary from hr.staff where ssn > ''
select s.salary, sum(s.salary) over (order by s.id) from hr.staff s
select token from web_sessions
select web_sessions from web_sessions
select count(*), token from web_sessions group by token
select s.token from web_sessions s join users u on u.id = s.user_id
update web_sessions set agent = token::text returning agent
delete from web_sessions where token = '91827391-8273-9182-7391-827391827391' returning *
insert into web_sessions select gen_random_uuid(), 1, token::text from web_sessions returning agent
select uuid_generate_v5(token, 'x'), token from web_sessions
select token::text, uuid_send(token) from web_sessions
-- Locking, sampling, set-returning and odd clauses.
select phone from users for update
select phone from users for no key update of users skip locked
select phone from users u for share of u nowait
select phone from users limit (select pin from users where id = 1)
select phone from users offset (select count(*) from users where phone = 'x')
select phone from users order by phone using <
select login from users order by (select phone::int)
select login from users where (select phone::int from users where id = 1) > 0
select count(*) from users where phone::int > 0
select exists (select phone::int from users where phone::int > 0)
select array(select phone from users)
select array(select u from users u)
select row(phone, pin) from users
select row(phone, pin) = row('', 0), phone from users
select (select array_agg(p) from (select phone p from users) x)
! select any_value(phone) from users
! select json_arrayagg(phone) from users
! select json_objectagg(login: phone) from users
! select json_object('a': phone) from users
! select json_array(phone, pin) from users
! select json_query(doc, '$.k') from users
! select json_value(doc, '$.k') from users
! select json_exists(doc, '$.k'), doc from users
! select json_serialize(raw) from users
! select json_scalar(phone) from users
! select * from users, json_table(doc, '$' columns (k text path '$.k')) j
! select * from json_table((select doc from users where id = 1), '$' columns (n int path '$.n'))
! select jsonb_path_query(doc, '$.k.string()') from users
! merge into users u using (values (1)) v(i) on u.id = v.i when matched then update set plan = 'x' returning u.phone
! merge into users u using (values (1)) v(i) on u.id = v.i when matched then update set plan = 'x' returning u
! merge into bag using users u on bag.id = u.id when not matched then insert (id, v) values (u.id, u.phone) returning bag.v
! merge into bag using users u on bag.id = u.id when not matched then do nothing when not matched by source then delete returning u.phone
! update users set plan = 'x' where id = 1 returning old.phone, new.phone
! update users set plan = 'x' where id = 1 returning old, new
! update users set plan = 'x' where id = 1 returning with (old as o) o.phone
! delete from payments returning old.card
! insert into bag (id, v) select 1, phone from users where id = 1 returning new.v
! create temp table t (a text, b text generated always as (a || '!') virtual) ;; insert into t (a) select phone from users ;; select b from t
! select array_sort(array_agg(phone)) from users
! select reverse(photo), phone from users where id = 1
! select crc32(photo), phone from users
! select casefold(phone) from users
! select gamma(1), phone from users
! select uuidv7() is null, token from web_sessions
! select array_reverse(codes) from users where id = 1
! select json_strip_nulls(raw, true) from users where id = 1
! select to_bin(pin), pin from users where id = 1
! select array_shuffle(codes) from users where id = 1
! select array_sample(codes, 2) from users where id = 1
! select * from pg_wait_events, users
! select random(pin, pin) from users where id = 1
! select erf(1), phone from users
! select date_add(seen, '0'), seen from users where id = 1
! select system_user, phone from users
! select * from pg_get_wal_block_info('0/1', '0/2'), users
select pg_get_object_address('table', array[phone], '{}') from users where id = 1
select pg_describe_object('pg_class'::regclass, 'users'::regclass, 0), phone from users
select to_regclass(phone), phone from users
select has_table_privilege(phone, 'select') from users where id = 1
select has_column_privilege('users', phone, 'select') from users where id = 1
select pg_relation_size(phone) from users where id = 1
select pg_size_bytes(phone) from users where id = 1
select parse_ident(phone || '.') from users where id = 1
select inet_merge(ip, ip), ip from users where id = 1
select pg_import_system_collations(phone::regnamespace) from users where id = 1
! select pg_file_write('/tmp/x', phone, false) from users
select pg_ls_dir(phone) from users where id = 1
select pg_read_file(phone) from users where id = 1
select pg_stat_file(phone) from users where id = 1
select pg_create_restore_point(phone), phone from users where id = 1
select pg_switch_wal(), phone from users
select pg_export_snapshot(), phone from users
select pg_relation_filenode('users'), phone from users
select current_setting(phone) from users where id = 1
select current_setting('x.y', true), phone from users
select to_regtype(phone), format_type(phone::regtype, null) from users where id = 1
select obj_description(phone::regclass) from users where id = 1
select string_agg(a.attname || '=' || phone, ',') from pg_attribute a, users where attrelid = 'users'::regclass
select c.relname, u.phone from pg_class c join users u on true where relname = 'users'
select oid::regclass, phone from pg_class, users where relname = 'users'
select typname from pg_type where typname in (select phone from users) union select phone from users
