-- As everyday.sql, over shop.sql: what ORMs, analysts and tools send. "~" is only run.
-- What ORMs emit for reads and writes.
-- SQLAlchemy
SELECT users.id, users.login, users.email, users.phone FROM users WHERE users.id = 1
SELECT users.id AS users_id, users.login AS users_login, users.email AS users_email FROM users ORDER BY users.id LIMIT 5 OFFSET 2
SELECT count(*) AS count_1 FROM (SELECT users.id AS users_id, users.login AS users_login, users.email AS users_email FROM users WHERE users.active IS true) AS anon_1
SELECT anon_1.users_id, anon_1.users_login, accounts_1.id AS accounts_1_id, accounts_1.kind AS accounts_1_kind FROM (SELECT users.id AS users_id, users.login AS users_login FROM users ORDER BY users.id LIMIT 3) AS anon_1 LEFT OUTER JOIN accounts AS accounts_1 ON anon_1.users_id = accounts_1.user_id ORDER BY anon_1.users_id, accounts_1.id
SELECT accounts.user_id AS accounts_user_id, accounts.id AS accounts_id, accounts.kind AS accounts_kind, accounts.meta AS accounts_meta FROM accounts WHERE accounts.user_id IN (1, 2, 3) ORDER BY accounts.id
INSERT INTO users (login, email, phone, active, plan) VALUES ('zoe', 'zoe@x.test', '+31', true, 'free') RETURNING users.id, users.created_at
INSERT INTO accounts (user_id, kind, note, meta) SELECT p0::BIGINT, p1::VARCHAR, p2::VARCHAR, p3::JSONB FROM (VALUES (3, 'sa1', 'n1', '{}', 0), (4, 'sa2', 'n2', '{}', 1)) AS imp_sen(p0, p1, p2, p3, sen_counter) ORDER BY sen_counter RETURNING accounts.id, accounts.id AS id__1
UPDATE users SET plan='pro', updated_at=now() WHERE users.id = 3
UPDATE users SET email='new@x.test' WHERE users.id = 3
UPDATE users SET phone='+31' WHERE users.id = 3 AND users.plan = 'free'
DELETE FROM accounts WHERE accounts.id = 5
BEGIN (implicit) ;; ROLLBACK
SELECT EXISTS (SELECT 1 FROM users WHERE users.login = 'ann') AS anon_1
SELECT users.login, accounts.kind FROM users JOIN accounts ON users.id = accounts.user_id WHERE users.login LIKE 'a' || '%' ORDER BY accounts.kind
SELECT CAST(accounts.balance AS FLOAT) AS balance, accounts.tags @> ARRAY['all']::TEXT[] AS has FROM accounts ORDER BY accounts.id LIMIT 3
SELECT accounts.meta ->> 'k' AS anon_1 FROM accounts WHERE (accounts.meta -> 'i')::INTEGER = 2 ORDER BY accounts.id
SAVEPOINT sa_savepoint_1 ;; INSERT INTO audit_log (what) VALUES ('x') ;; RELEASE SAVEPOINT sa_savepoint_1
SAVEPOINT sa_savepoint_1 ;; UPDATE users SET plan = 'y' WHERE id = 4 ;; ROLLBACK TO SAVEPOINT sa_savepoint_1 ;; SELECT plan FROM users WHERE id = 4
-- ActiveRecord
SELECT "users".* FROM "users" WHERE "users"."id" = 1 LIMIT 1
SELECT "users".* FROM "users" WHERE "users"."login" = 'ann' ORDER BY "users"."id" ASC LIMIT 1
SELECT 1 AS one FROM "users" WHERE "users"."login" = 'ann' LIMIT 1
SELECT "users"."id" AS t0_r0, "users"."login" AS t0_r1, "users"."email" AS t0_r2, "accounts"."id" AS t1_r0, "accounts"."kind" AS t1_r1 FROM "users" LEFT OUTER JOIN "accounts" ON "accounts"."user_id" = "users"."id" WHERE "users"."active" = TRUE ORDER BY "users"."id", "accounts"."id"
SELECT COUNT(*) FROM "users" WHERE "users"."active" = TRUE
SELECT COUNT(DISTINCT "users"."id") FROM "users" INNER JOIN "accounts" ON "accounts"."user_id" = "users"."id"
SELECT COUNT(*) AS "count_all", "users"."plan" AS "users_plan" FROM "users" GROUP BY "users"."plan" ORDER BY 2
SELECT "users"."id", "users"."login" FROM "users" WHERE "users"."id" BETWEEN 2 AND 5 ORDER BY "users"."id" DESC
INSERT INTO "users" ("login", "email", "created_at", "updated_at") VALUES ('rails', 'rails@x.test', '2026-01-02 03:04:05.678', '2026-01-02 03:04:05.678') RETURNING "id"
UPDATE "users" SET "plan" = 'gold', "updated_at" = '2026-01-02 03:04:05' WHERE "users"."id" = 2
UPDATE "users" SET "phone" = '+32', "email" = 'q2@x.test' WHERE "users"."id" = 2
DELETE FROM "users" WHERE "users"."id" = 12
INSERT INTO "accounts" ("user_id","kind","note") VALUES (1, 'basic', 'up') ON CONFLICT ("user_id","kind") DO UPDATE SET "note"=excluded."note" RETURNING "id"
INSERT INTO "accounts" ("user_id","kind") VALUES (1, 'basic') ON CONFLICT DO NOTHING RETURNING "id"
INSERT INTO "users" ("login","email") VALUES ('ann', 'other@x.test') ON CONFLICT ("login") DO UPDATE SET updated_at=(CASE WHEN ("users"."login" IS NOT DISTINCT FROM excluded."login") THEN "users".updated_at ELSE CURRENT_TIMESTAMP END),"plan"=excluded."plan" RETURNING "login"
SELECT "accounts".* FROM "accounts" WHERE "accounts"."user_id" = 1 ORDER BY "accounts"."id" ASC FOR UPDATE
SELECT "users".* FROM "users" WHERE "users"."id" = 1 LIMIT 1 FOR UPDATE
SELECT pg_try_advisory_lock(42) ;; SELECT pg_advisory_unlock(42)
SELECT DISTINCT "users"."id", "users"."created_at" AS alias_0 FROM "users" INNER JOIN "accounts" ON "accounts"."user_id" = "users"."id" ORDER BY "users"."created_at" DESC, "users"."id" LIMIT 3
-- Django
SELECT "users"."id", "users"."login", "users"."email", "users"."phone", "users"."birth" FROM "users" WHERE "users"."id" = 1 LIMIT 21
SELECT "accounts"."id", "accounts"."kind", "users"."id", "users"."login" FROM "accounts" INNER JOIN "users" ON ("accounts"."user_id" = "users"."id") WHERE UPPER("users"."login"::text) LIKE UPPER('%AN%') ORDER BY "accounts"."id" ASC
SELECT COUNT(*) AS "__count" FROM "users"
SELECT (1) AS "a" FROM "users" WHERE "users"."id" = 1 LIMIT 1
SELECT "users"."plan", COUNT("users"."id") AS "n" FROM "users" GROUP BY "users"."plan" HAVING COUNT("users"."id") > 0 ORDER BY "n" DESC
SELECT "users"."id", "users"."login", COUNT("accounts"."id") AS "num" FROM "users" LEFT OUTER JOIN "accounts" ON ("users"."id" = "accounts"."user_id") GROUP BY "users"."id" ORDER BY "num" DESC, "users"."id"
SELECT "users"."id", "users"."login", "users"."email", "users"."phone", COUNT("accounts"."id") AS "num" FROM "users" LEFT OUTER JOIN "accounts" ON ("users"."id" = "accounts"."user_id") GROUP BY "users"."id", "users"."login", "users"."email", "users"."phone" ORDER BY "users"."id"
SELECT "users"."id" FROM "users" WHERE EXISTS(SELECT 1 AS "a" FROM "accounts" U0 WHERE (U0."user_id" = ("users"."id") AND U0."kind" = 'basic') LIMIT 1) ORDER BY 1
SELECT "accounts"."id", EXTRACT(YEAR FROM "accounts"."opened") AS "y", DATE_TRUNC('month', "accounts"."opened")::date AS "m" FROM "accounts" ORDER BY 1 LIMIT 2
SELECT "users"."id", ("users"."created_at" AT TIME ZONE 'Europe/Amsterdam')::date AS "day" FROM "users" ORDER BY 1 LIMIT 1
INSERT INTO "users" ("login", "email", "phone", "full_name", "active", "plan", "created_at") VALUES ('dj', 'dj@x.test', NULL, '', true, 'free', '2026-01-01T00:00:00+00:00'::timestamptz) RETURNING "users"."id"
UPDATE "users" SET "login" = 'ann2', "email" = 'ann2@x.test', "phone" = '+31', "full_name" = 'Ann', "active" = true WHERE "users"."id" = 1
DELETE FROM "accounts" WHERE "accounts"."id" IN (1, 2)
SELECT "users"."id", "users"."email" FROM "users" WHERE "users"."id" IN (1, 2) ORDER BY "users"."id" FOR UPDATE OF "users"
SELECT "accounts"."id", ROW_NUMBER() OVER (PARTITION BY "accounts"."user_id" ORDER BY "accounts"."id") AS "rn" FROM "accounts" ORDER BY 1 LIMIT 4
SELECT "col1", "col2" FROM (SELECT "users"."id" AS "col1", RANK() OVER (ORDER BY "users"."created_at") AS "col2" FROM "users") "qualify" WHERE "col2" <= 3 ORDER BY 1
UPDATE "accounts" SET "balance" = ("accounts"."balance" + 10) WHERE "accounts"."user_id" = 1
UPDATE "accounts" SET "note" = CASE WHEN ("accounts"."id" = 1) THEN 'a' WHEN ("accounts"."id" = 2) THEN 'b' ELSE NULL END::varchar WHERE "accounts"."id" IN (1, 2)
-- Hibernate
select u1_0.id,u1_0.active,u1_0.created_at,u1_0.email,u1_0.login,u1_0.phone,u1_0.plan from users u1_0 where u1_0.id=1
select u1_0.id,u1_0.login,a1_0.user_id,a1_0.id,a1_0.kind from users u1_0 left join accounts a1_0 on u1_0.id=a1_0.user_id where u1_0.login='ann' order by a1_0.id
select a1_0.user_id,a1_0.id,a1_0.kind,a1_0.note from accounts a1_0 where a1_0.user_id=1 order by 2
select count(u1_0.id) from users u1_0
select u1_0.id,u1_0.login from users u1_0 order by u1_0.id offset 2 rows fetch first 3 rows only
select u1_0.id,u1_0.login from users u1_0 where u1_0.login like 'user%' escape '' order by u1_0.id fetch first 2 rows only
select nextval('accounts_id_seq')
insert into users (active,email,login,phone,plan,id) values (true,'h@x.test','hib','+31','free',default)
update users set active=true,email='h@x.test',login='ann',phone='+31',plan='pro' where id=1
update users set plan='z' where id=1 and updated_at is null
delete from accounts where id=3
select u1_0.id from users u1_0 where u1_0.id=1 for no key update
select u1_0.id,u1_0.email from users u1_0 where u1_0.id=1 for update of u1_0 skip locked
select case when (select count(*) from accounts a where a.user_id = u.id) > 1 then 1 else 0 end from users u order by u.id
select tbl.n from (select n, g from numbers) tbl where tbl.n in (1,2,3) order by 1
-- Prisma
SELECT "public"."users"."id", "public"."users"."login", "public"."users"."email", "public"."users"."plan"::text FROM "public"."users" WHERE ("public"."users"."id" = 1 AND 1=1) LIMIT 1 OFFSET 0
SELECT "public"."users"."id", "public"."users"."email", "public"."users"."phone" FROM "public"."users" WHERE 1=1 ORDER BY "public"."users"."id" ASC LIMIT 3 OFFSET 0
SELECT "public"."accounts"."id", "public"."accounts"."user_id" FROM "public"."accounts" WHERE "public"."accounts"."user_id" IN (1,2) OFFSET 0
SELECT COUNT(*) FROM (SELECT "public"."users"."id" FROM "public"."users" WHERE 1=1 OFFSET 0) AS "sub"
SELECT COUNT(*), "public"."users"."plan" FROM "public"."users" WHERE 1=1 GROUP BY "public"."users"."plan" ORDER BY COUNT(*) DESC OFFSET 0
INSERT INTO "public"."users" ("login","email","phone","active") VALUES ('pri','pri@x.test','+31',true) RETURNING "public"."users"."id", "public"."users"."login", "public"."users"."plan"
~INSERT INTO "public"."users" ("login","email","phone","active") VALUES ('pri','pri@x.test','+31',true) RETURNING "public"."users"."id", "public"."users"."email", "public"."users"."phone"
UPDATE "public"."users" SET "plan" = 'p' WHERE ("public"."users"."id" = 1 AND 1=1) RETURNING "public"."users"."id", "public"."users"."login", "public"."users"."email"
UPDATE "public"."users" SET "login" = 'p' WHERE ("public"."users"."id" IN (1) AND ("public"."users"."id" = 1 AND 1=1))
DELETE FROM "public"."accounts" WHERE ("public"."accounts"."id" = 1 AND 1=1) RETURNING "public"."accounts"."id", "public"."accounts"."kind"
INSERT INTO "public"."accounts" ("user_id","kind") VALUES (1,'basic') ON CONFLICT ("user_id","kind") DO UPDATE SET "note" = 'x' WHERE ("public"."accounts"."user_id" = 1 AND 1=1) RETURNING "public"."accounts"."id", "public"."accounts"."note"
SELECT "t0"."id", "t0"."login", "User_accounts"."__prisma_data__" AS "accounts" FROM "public"."users" AS "t0" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT "t3"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('id', "t2"."id", 'kind', "t2"."kind") AS "__prisma_data__" FROM (SELECT "t1".* FROM "public"."accounts" AS "t1" WHERE "t0"."id" = "t1"."user_id" ORDER BY "t1"."id") AS "t2") AS "t3") AS "t4") AS "User_accounts" ON TRUE WHERE "t0"."id" = 1
SELECT "t0"."id", "t1"."__prisma_data__" FROM "public"."accounts" AS "t0" LEFT JOIN LATERAL (SELECT JSONB_BUILD_OBJECT('id', "u"."id", 'email', "u"."email") AS "__prisma_data__" FROM (SELECT "t2".* FROM "public"."users" AS "t2" WHERE "t0"."user_id" = "t2"."id" LIMIT 1) AS "u") AS "t1" ON TRUE ORDER BY "t0"."id" LIMIT 2
-- Knex, Sequelize, TypeORM, Drizzle, GORM, Ecto, EF Core, jOOQ
select "id", "login", "email" from "users" where "plan" = 'free' and ("active" = true or "active" is null) order by "id" asc limit 3
SELECT "User"."id", "User"."login", "User"."email", "accounts"."id" AS "accounts.id", "accounts"."kind" AS "accounts.kind" FROM "users" AS "User" LEFT OUTER JOIN "accounts" AS "accounts" ON "User"."id" = "accounts"."user_id" WHERE "User"."id" = '1' ORDER BY "accounts"."id"
SELECT count(*) AS "count" FROM "users" AS "User"
~INSERT INTO "users" ("id","login","email","created_at") VALUES (DEFAULT,'seq','seq@x.test','2026-01-01 00:00:00.000 +00:00') RETURNING "id","login","email","phone","active","plan"
UPDATE "users" SET "plan"='s',"updated_at"='2026-01-01 00:00:00.000 +00:00' WHERE "id" = 1 RETURNING *
SELECT "User"."id" AS "User_id", "User"."login" AS "User_login", "User"."email" AS "User_email" FROM "users" "User" WHERE ( ("User"."id" = 1) ) LIMIT 1
SELECT DISTINCT "distinctAlias"."User_id" AS "ids_User_id" FROM (SELECT "User"."id" AS "User_id", "User"."login" AS "User_login" FROM "users" "User" LEFT JOIN "accounts" "a" ON "a"."user_id"="User"."id") "distinctAlias" ORDER BY "User_id" ASC LIMIT 1
START TRANSACTION ;; INSERT INTO "users"("login", "email", "active") VALUES ('ty', 'ty@x.test', DEFAULT) RETURNING "created_at", "active", "plan" ;; ROLLBACK
select "users"."id", "users"."email", "users_accounts"."data" as "accounts" from "users" "users" left join lateral (select coalesce(json_agg(json_build_array("users_accounts"."id", "users_accounts"."kind") order by "users_accounts"."id"), '[]'::json) as "data" from "accounts" "users_accounts" where "users_accounts"."user_id" = "users"."id") "users_accounts" on true order by "users"."id" limit 2
SELECT * FROM "users" WHERE "users"."id" = 1 ORDER BY "users"."id" LIMIT 1
SELECT "users"."id","users"."login","Manager"."id" AS "Manager__id","Manager"."login" AS "Manager__login","Manager"."email" AS "Manager__email" FROM "users" LEFT JOIN "users" "Manager" ON "users"."manager" = "Manager"."id" WHERE "users"."id" = 2
INSERT INTO "accounts" ("user_id","kind","note") VALUES (1,'g1','a'),(2,'g2','b') ON CONFLICT ("id") DO UPDATE SET "note"="excluded"."note" RETURNING "id"
SELECT u0."id", u0."login", u0."email" FROM "users" AS u0 WHERE (u0."id" = ANY('{1,2}')) ORDER BY u0."id"
SELECT a1."id", a1."kind", u0."id" FROM "users" AS u0 INNER JOIN "accounts" AS a1 ON a1."user_id" = u0."id" WHERE (u0."id" = ANY(ARRAY[1,2]::bigint[])) ORDER BY u0."id", a1."id"
SELECT TRUE FROM "users" AS u0 WHERE (u0."login" = 'ann') LIMIT 1
SELECT u."id", u."email", u."login", t."id", t."kind" FROM users AS u LEFT JOIN (SELECT a."id", a."kind", a."user_id" FROM accounts AS a WHERE a."balance" > 0.0) AS t ON u."id" = t."user_id" ORDER BY u."id", t."id"
SELECT u."id", u."login" FROM users AS u WHERE u."id" > 2 AND NOT EXISTS (SELECT 1 FROM payments AS p WHERE p."user_id" = u."id") ORDER BY u."id" LIMIT 3
SELECT s."plan" AS "Key", count(*)::int AS "Count" FROM (SELECT u."plan" FROM users AS u) AS s GROUP BY s."plan" ORDER BY 1
INSERT INTO users (login, email) VALUES ('ef', 'ef@x.test') RETURNING id, created_at; INSERT INTO audit_log (what) VALUES ('ef')
select "public"."users"."id", "public"."users"."login", row_number() over (order by "public"."users"."id") from "public"."users" where ("public"."users"."plan" = 'free' and "public"."users"."id" in (3, 4, 5)) fetch next 10 rows only
select (select coalesce(json_agg(json_build_array("v0", "v1")), json_build_array()) from (select "a"."id" as "v0", "a"."kind" as "v1" from "accounts" as "a" where "a"."user_id" = "u"."id" order by 1) as "t") from "users" as "u" order by "u"."id" limit 1
-- Analysts.
select plan, count(*) as users, count(*) filter (where active) as active, round(100.0 * count(*) / sum(count(*)) over (), 1) as share from users group by plan order by plan
select date_trunc('month', u.created_at) as month, count(*) from users u group by 1 order by 1
select d.day::date, count(a.id) from generate_series('2026-01-30'::timestamptz, '2026-02-02', '1 day') as d(day) left join accounts a on a.opened = d.day::date group by 1 order by 1
with daily as (select opened, sum(balance) as total from accounts group by opened) select opened, total, sum(total) over (order by opened rows between 6 preceding and current row) as rolling, lag(total) over (order by opened) as before from daily
select kind, percentile_cont(0.5) within group (order by balance) as median, percentile_disc(array[0.25, 0.75]) within group (order by balance) as quartiles, stddev_samp(balance), corr(balance, user_id) from accounts group by kind order by kind
select coalesce(kind, 'all') as kind, coalesce(u.plan, 'all') as plan, sum(balance), grouping(kind, u.plan) from accounts a join users u on u.id = a.user_id group by cube (kind, u.plan) order by 4, 1, 2
select kind, u.plan, count(*) from accounts a join users u on u.id = a.user_id group by grouping sets ((kind), (u.plan), ()) order by 1, 2
select u.login, a.kind, a.balance from users u cross join lateral (select * from accounts where user_id = u.id order by balance desc, kind limit 1) a order by u.id limit 4
select login, array_agg(kind order by kind) as kinds, string_agg(kind, ', ' order by kind desc) from users join accounts on user_id = users.id group by login order by login limit 4
select jsonb_object_agg(kind, total) from (select kind, sum(balance) as total from accounts group by kind) t
select u.id, jsonb_build_object('login', u.login, 'accounts', jsonb_agg(jsonb_build_object('kind', a.kind, 'tags', a.tags) order by a.kind)) from users u join accounts a on a.user_id = u.id group by u.id order by u.id limit 2
select row_to_json(t) from (select id, login, email from users order by id limit 2) t
select json_agg(t) from (select id, plan from users order by id limit 3) t
select to_jsonb(a) - 'meta' from accounts a order by id limit 1
select key, value from accounts, jsonb_each(meta) where accounts.id = 1 order by key
select id, meta #>> '{k}' as k, meta @> '{"k": "basic"}' as basic, meta ? 'i' as has from accounts order by id limit 3
select jsonb_path_query_first(meta, '$.i'), meta @@ '$.i > 2' from accounts order by id limit 3
select tag, count(*) from accounts, unnest(tags) as tag group by tag order by tag
select id from accounts where 'basic' = any(tags) order by id limit 2
select id from accounts where tags && array['basic', 'none'] order by id limit 2
select id, array_length(tags, 1), cardinality(tags), tags[1:1], array_position(tags, 'all'), array_remove(tags, 'all'), array_cat(tags, '{x}') from accounts order by id limit 2
select id, ts_rank(to_tsvector('english', body), q) as rank, ts_headline('english', body, q) from notes, to_tsquery('english', 'hello & world') q where to_tsvector('english', body) @@ q order by rank desc
select id, body from notes where to_tsvector('simple', body) @@ plainto_tsquery('simple', 'goodbye world')
select id, websearch_to_tsquery('english', 'hello -bye') from notes order by id
select similarity('hello', body) > 0.1, word_similarity('hello', body), body % 'hello' from notes order by id
select login, login ilike '%user%', login ~ '^user[0-9]+$', regexp_replace(login, '\d+', '#', 'g'), split_part(login, 'r', 2) from users order by id
select id, case plan when 'free' then 0 when 'pro' then 10 else 99 end as price from users order by id
select least(1, 2), greatest(1, null, 3), nullif(1, 1), coalesce(null, 2), 7 / 2, 7 % 2, 7.0 / 2, round(7.456, 2), power(2, 10), sqrt(16), abs(-1), ceil(1.2), floor(1.8), mod(7, 3), sign(-2), trunc(1.9), ln(1), log(100), pi()
select now() is not null, current_date is not null, current_timestamp is not null, localtime is not null, clock_timestamp() >= now(), age(timestamp '2026-03-01', timestamp '2025-01-15'), extract(dow from date '2026-11-25'), to_char(timestamp '2026-11-25 13:14:15', 'Day, DD Mon YYYY HH24:MI:SS'), date '2026-11-25' + interval '1 month', make_interval(days => 3), justify_days(interval '40 days')
select date_bin('15 minutes', timestamptz '2026-02-02 12:34:56+00', timestamptz '2026-01-01') as bucket, timestamptz '2026-02-02 12:34:56+00' at time zone 'UTC'
select * from (values (1, 'a'), (2, 'b')) as v(n, s) where n > 1
select n, g, sum(n) over w, avg(n) over (partition by g), dense_rank() over (order by g), cume_dist() over (order by n), percent_rank() over w, first_value(n) over w, count(*) over (order by n range between 2 preceding and current row), max(n) over (order by n groups between 1 preceding and 1 following exclude current row) from numbers window w as (partition by g order by n) order by n limit 10
with recursive org as (select id, login, manager, 1 as depth, array[id] as path from users where manager is null union all select u.id, u.login, u.manager, o.depth + 1, o.path || u.id from users u join org o on u.manager = o.id) select id, login, depth, path from org order by path
with recursive org as (select id, manager from users where id = 1 union all select u.id, u.manager from users u join org o on u.manager = o.id) search breadth first by id set ord cycle id set loop using p select id, loop from org order by ord
with moved as (delete from accounts where user_id = 12 returning *), logged as (insert into audit_log (what) select kind from moved returning id) select count(*) from moved
with new as (insert into users (login, email) values ('cte', 'cte@x.test') returning id) insert into accounts (user_id, kind) select id, 'basic' from new returning kind
insert into accounts (user_id, kind, note) select id, 'bulk', login from users where plan = 'free' on conflict do nothing
insert into accounts (user_id, kind) select u.id, 'bulk2' from users u left join accounts a on a.user_id = u.id and a.kind = 'bulk2' where a.id is null returning user_id
update accounts a set note = u.login from users u where u.id = a.user_id and u.plan = 'pro' returning a.id, a.note, u.login
update accounts set balance = balance * 1.1, note = upper(note) where opened < date '2026-06-01' and kind = 'basic'
update users u set plan = s.kind from (select user_id, min(kind) as kind from accounts group by user_id) s where s.user_id = u.id and u.id < 3 returning u.id, u.plan
update users set (plan, active) = ('x', false) where id in (select user_id from accounts where balance > 100) returning id
update users set (plan, updated_at) = (select min(kind), now() from accounts a where a.user_id = users.id) where id = 2
delete from accounts a using users u where u.id = a.user_id and u.plan = 'free' and a.kind = 'extra'
delete from users u where not exists (select from accounts a where a.user_id = u.id) and u.id > 100
delete from payments where id = 3 and currency = 'USD' returning id, currency
merge into accounts a using (values (1, 'basic', 'm'), (1, 'm2', 'n')) v(u, k, n) on a.user_id = v.u and a.kind = v.k when matched then update set note = v.n when not matched then insert (user_id, kind, note) values (v.u, v.k, v.n)
merge into users u using accounts a on a.user_id = u.id and a.kind = 'basic' when matched and u.plan = 'free' then update set plan = 'basic'
merge into users u using (select 1::bigint as id) s on u.id = s.id when matched then do nothing when not matched then insert (login, email) values ('m', 'm@x.test')
select * from users order by id limit 2
select u.* from users u where u.plan = 'pro'
select id, email, phone, pin, birth, home, doc, stay, codes, attrs, ip, score, photo, sex, seen from users order by id limit 3
select users.id, phone from users join accounts on accounts.user_id = users.id and accounts.kind = 'basic' order by users.id limit 2
select * from users join web_sessions on web_sessions.user_id = users.id order by users.id
select token, agent from web_sessions order by user_id
select user_id, count(*) from web_sessions group by user_id order by 1
select p.id, p.currency, p.card, p.cents, u.login from payments p join users u on u.id = p.user_id order by p.id
select currency, count(*), sum(cents) from payments group by currency order by 1
select * from payments_eur
select * from payments where currency = 'USD' and paid_at >= '2026-01-01' order by id
select day, label, code from secrets_by_day where day between '2026-01-01' and '2026-12-31' order by day
select name, salary, hired from hr.staff order by id
select d.title, count(*), avg(s.salary), min(s.hired) from hr.staff s join hr.depts d on d.id = s.dept group by d.id order by d.id
select s.name, d.title from hr.staff s left join hr.depts d on s.dept = d.id where d.budget > 500 order by 1
select * from hr.staff join hr.depts on depts.id = staff.dept order by staff.id
select hr.staff.name from hr.staff where hr.staff.id = 1
select * from user_list order by id limit 2
select login, email from user_list where plan = 'pro'
select u.login, v.email from users u join user_list v using (id) order by 1 limit 2
select title, name from pay_view order by name
select id, login, plan from login_view order by id limit 2
select id, login from user_mat order by id limit 2
select plan, n from plan_mat order by 1
insert into user_list (login, email) values ('lv', 'lv@x.test') returning login
update login_view set plan = 'lv' where id = 1 returning login
select id, login from users where login = 'ann' and phone is not null
select count(phone), count(distinct phone), min(phone) from users
select left(email::text, 1), count(*) from users group by 1
select phone, count(*) from users group by phone order by 1
select login from users order by pin, id limit 3
select id from users where email ilike '%@example.test' order by id
select id, coalesce(phone, 'none') as phone, length(phone), phone || '!' from users order by id limit 2
select date_part('year', birth), count(*) from users group by 1
select id, doc ->> 'k', doc -> 'a' -> 0 from users order by id limit 2
select id, (home).city from users order by id limit 2
select u.login, m.login as boss from users u left join users m on m.id = u.manager order by u.id limit 4
select a.login, b.login from users a, users b where a.id < b.id and a.plan = b.plan order by 1, 2 limit 3
select x.login from (select login, id from users) x where x.id = 1
select id from users except select user_id from payments order by id limit 3
select id from users intersect all select user_id from accounts order by 1 limit 3
(select id, login from users order by id limit 1) union all (select id, title from hr.depts order by id limit 1)
select distinct plan from users order by plan
select distinct on (user_id) user_id, kind from accounts order by user_id, kind desc limit 3
select ctid, id from accounts order by id limit 2
select tableoid::regclass as part, id from payments order by id
select xmin is not null, ctid is not null from users limit 1
select u.id, u.ctid is not null as c from users u order by u.id limit 1
select id from users tablesample system (100) order by id limit 1
table hr.depts
table notes
values (1, 'a'), (2, 'b')
select 1
select 1 as "Ünï", 'é' as "ß"
select 'select * from users where phone = ''x''' as text
select $$it's$$, E'a\tb', U&'\0041', b'101', x'1f', 1e3, 0.1::float4, '\x00ff'::bytea
select null, true, 'x'::char(3), 1::bigint, '1 day'::interval, '{1,2}'::int[], '[1,5)'::int4range, point(1, 2), '10.0.0.1/8'::inet, gen_random_uuid() is not null
select md5('a'), sha256('a'), encode(digest('a', 'sha1'), 'hex'), crypt('a', 'ab') is not null, gen_salt('bf') is not null
select hstore('a', '1') -> 'a', 'a=>1'::hstore || 'b=>2', akeys('a=>1,b=>2'::hstore)
select 'a.b.c'::ltree <@ 'a', nlevel('a.b'), subpath('a.b.c', 1)
select unaccent('Hôtel'), soundex('x'), levenshtein('a', 'b'), show_trgm('cat'), 'a'::citext = 'A'
select earth_distance(ll_to_earth(52, 4), ll_to_earth(51, 4)) > 0, uuid_generate_v4() is not null, '{1,2}'::int[] @@ '1'::query_int
select generate_series(1, 3), unnest(array['a', 'b', 'c'])
select * from rows from (generate_series(1, 2), unnest(array['x', 'y'])) with ordinality as t(a, b, o)
select * from unnest(array[1, 2], array['a', 'b']) as t(n, s)
select * from json_to_recordset('[{"a":1,"b":"x"}]') as x(a int, b text)
select * from jsonb_to_record('{"a":1}') as x(a int)
select * from jsonb_populate_record(null::notes, '{"id": 5, "body": "x"}')
select * from string_to_table('a,b', ',') t
select * from regexp_split_to_table('a b', ' ') with ordinality
select format('%s-%L-%I', 1, 'a', 'b c'), quote_literal('x'), concat_ws(',', 1, null, 2), lpad('1', 3, '0'), translate('abc', 'ab', 'xy'), reverse('abc'), to_hex(255), starts_with('abc', 'a'), string_to_array('a,b', ','), repeat('x', 3), position('b' in 'abc'), substring('abc' from 2 for 1), overlay('abc' placing 'x' from 2), trim(both 'x' from 'xax'), ascii('a'), chr(65), initcap('ab cd'), char_length('abc'), octet_length('é'), bit_length('a')
select array(select n from numbers where n < 4 order by n), (select max(n) from numbers), exists (select 1 from numbers where n > 100)
select n from numbers where n = any (array(select user_id from accounts where kind = 'basic')) order by n
select n, n in (1, 2), n between 3 and 5, n is distinct from 3, not (n > 2) from numbers order by n limit 3
select g, count(*), count(*) filter (where n % 2 = 0), bool_and(n > 0), every(n > 0), bit_and(n), regr_slope(n, g), var_pop(n), mode() within group (order by n % 3) from numbers group by g having count(*) > 1 order by g
select xmlelement(name a, xmlattributes(1 as b), 'c'), xmlforest(1 as x), xpath('/a/text()', '<a>1</a>'), xmlparse(content '<a/>'), xml_is_well_formed('<a>')
-- Sessions: transactions, temp tables, cursors, prepared statements, EXPLAIN, COPY.
begin ;; select count(*) from users ;; savepoint s ;; update accounts set note = 'x' where id = 1 ;; rollback to savepoint s ;; release savepoint s ;; commit
begin read only ;; select count(*) from accounts ;; rollback
begin isolation level repeatable read ;; select count(*) from users ;; end
start transaction isolation level serializable ;; select 1 ;; commit and no chain
begin transaction read write ;; abort
create temp table t (id int primary key, v text) on commit drop ;; insert into t values (1, 'a'), (2, 'b') ;; update t set v = 'c' where id = 1 ;; select * from t order by id ;; truncate t ;; drop table t
create temporary table t as select id, login, email from users ;; create index on t (id) ;; analyze t ;; select * from t order by id limit 2 ;; alter table t add column x int default 1 ;; select count(x) from t ;; drop table if exists t
create temp table t on commit preserve rows as select plan, count(*) as n from users group by plan ;; select * from t order by 1
create temp table if not exists t (like accounts including defaults) ;; insert into t select * from accounts where id = 1 ;; select id, kind from t
select id, plan into temp t2 from users ;; select count(*) from t2
create temp view tv as select id, login from users ;; select * from tv order by id limit 1 ;; drop view tv
create temp sequence ts ;; select nextval('ts'), currval('ts'), lastval() ;; drop sequence ts
declare c cursor for select id, email from users order by id ;; fetch 2 from c ;; move forward 1 in c ;; fetch next from c ;; close c
declare c no scroll cursor with hold for select n from numbers order by n ;; fetch forward 3 from c ;; close all
declare c scroll cursor for select id, phone from users order by id ;; fetch absolute 3 from c ;; fetch backward 1 from c ;; fetch last from c
declare c cursor for select id from accounts order by id for update ;; fetch 1 from c ;; update accounts set note = 'cur' where current of c ;; close c
prepare p (bigint) as select id, login, email from users where id = $1 ;; execute p (1) ;; execute p (2) ;; deallocate p
prepare p as insert into audit_log (what) values ($1) ;; execute p ('x') ;; deallocate all
prepare p (text, int) as update accounts set note = $1 where id = $2 returning note ;; execute p ('z', 1)
explain select id from accounts where id = 1
~explain (analyze, costs off, timing off, summary off, buffers off) select count(*) from numbers where n > 10
~explain (format json) select * from users join accounts on user_id = users.id
~explain (verbose, settings) select login, email from users where id = 1
~explain analyze update accounts set note = 'x' where id = 1
~explain (analyze, wal, buffers) insert into audit_log (what) values ('x')
~explain (costs off) delete from accounts where id = 1
copy accounts to stdout
copy accounts (id, kind) to stdout with (format csv, header true, delimiter ';')
copy (select id, login, email from users order by id) to stdout with csv header
copy (select plan, count(*) from users group by plan order by 1) to stdout with (format text, null 'NULL')
copy users (id, login, plan) to stdout
copy users to stdout
copy (select * from payments order by id) to stdout (format csv)
copy hr.depts to stdout binary
lock table accounts in share mode
lock table users in access share mode
truncate audit_log
truncate table only accounts restart identity
analyze accounts
analyze users
analyze verbose notes
vacuum accounts
vacuum (analyze) users
set constraints all deferred
set statement_timeout = '5s' ;; show statement_timeout ;; reset statement_timeout
set local lock_timeout = 1000 ;; select current_setting('lock_timeout')
set session idle_in_transaction_session_timeout = 0
set timezone = 'Europe/Amsterdam' ;; select timestamptz '2026-01-01 00:00:00+00'
set time zone 'UTC' ;; show timezone
set time zone local
set time zone interval '+01:00' hour to minute ;; select timestamptz '2026-01-01 00:00:00+00'
set datestyle = 'ISO, DMY' ;; select date '2026-02-01' ;; show datestyle
set search_path to hr, public ;; select name from staff order by id ;; show search_path
set search_path = hr ;; select title from depts order by id ;; reset search_path
set local search_path = public ;; select count(*) from accounts
select set_config('search_path', 'hr, public', false) ;; select count(*) from staff
select set_config('statement_timeout', '1000', true), set_config('application_name', 'x', false)
select current_setting('server_version_num')::int > 150000, current_setting('search_path')
set application_name = 'report' ;; show application_name
set client_encoding = 'UTF8' ;; show client_encoding
set names 'utf8'
set bytea_output = 'hex' ;; set extra_float_digits = 3 ;; set intervalstyle = 'iso_8601' ;; select interval '1 day 2 hours'
set standard_conforming_strings = on
set escape_string_warning = off
set client_min_messages to warning
set work_mem = '8MB' ;; set enable_seqscan = off ;; set random_page_cost = 1.1 ;; set jit = off ;; set max_parallel_workers_per_gather = 0 ;; select count(*) from numbers
set default_transaction_isolation = 'read committed' ;; set default_transaction_read_only = off
set session characteristics as transaction isolation level read committed
set transaction isolation level repeatable read ;; select count(*) from numbers
set default_tablespace = '' ;; set default_table_access_method = heap ;; set check_function_bodies = false ;; set xmloption = content ;; set row_security = off
set synchronous_commit = off ;; set lock_timeout = 0 ;; set synchronize_seqscans to off
~show all
show transaction isolation level
show server_version
show max_identifier_length
reset all
discard all
discard temp
discard plans
deallocate all
unlisten *
select pg_backend_pid() > 0, version() like 'PostgreSQL%', current_user = session_user, current_database() is not null, current_schema(), current_schemas(true), inet_server_port() > 0, pg_postmaster_start_time() is not null, txid_current() > 0, pg_current_xact_id() is not null, pg_is_in_recovery(), pg_conf_load_time() is not null
select pg_size_pretty(pg_total_relation_size('users')) is not null, pg_relation_size('accounts') > 0, pg_database_size(current_database()) > 0, pg_table_size('users'::regclass) >= 0, pg_indexes_size('users') > 0
select 'users'::regclass::oid > 0, to_regclass('nope'), 'int4'::regtype, to_regtype('text'), 'public'::regnamespace, pg_typeof(1), format_type(23, -1), 'now'::regproc
select pg_get_serial_sequence('accounts', 'id'), col_description('users'::regclass, 1), obj_description('users'::regclass, 'pg_class'), has_table_privilege('users', 'select'), has_schema_privilege('public', 'usage'), pg_get_userbyid(10) is not null
select currval('accounts_id_seq') from (select nextval('accounts_id_seq')) x
select last_value > 0, is_called from accounts_id_seq
select setval('accounts_id_seq', (select max(id) from accounts))
select setval(pg_get_serial_sequence('accounts', 'id'), coalesce(max(id), 1), max(id) is not null) from accounts
select pg_sleep(0)
select random() < 1, setseed(0.5)
create table app_new (id bigserial primary key, user_id bigint references users (id), name text not null default 'x' check (name <> ''), created timestamptz default now(), unique (name)) ;; create index app_new_user on app_new using btree (user_id) where user_id > 0 ;; comment on table app_new is 'new' ;; insert into app_new (user_id) values (1) returning id ;; alter table app_new add column j jsonb not null default '{}' ;; alter table app_new alter column name drop not null ;; alter table app_new rename column j to k ;; drop index app_new_user ;; drop table app_new cascade
create table report as select plan, count(*) from login_view group by plan ;; select * from report order by 1
create schema if not exists staging ;; create table staging.x (id int) ;; drop schema staging cascade
create or replace view plans as select distinct plan from login_view ;; select * from plans order by 1 ;; drop view plans
set search_path = public ;; create type st as enum ('a', 'b') ;; alter type st add value 'c' ;; drop type st
create index if not exists acc_note on accounts (note)
alter table accounts add column if not exists extra int ;; alter table accounts drop column extra
alter table accounts add constraint acc_chk check (balance >= 0) not valid ;; alter table accounts validate constraint acc_chk ;; alter table accounts drop constraint acc_chk
alter sequence accounts_id_seq restart with 500 ;; select nextval('accounts_id_seq')
create materialized view mv as select kind, count(*) from accounts group by kind ;; refresh materialized view mv ;; select * from mv order by 1 ;; drop materialized view mv
refresh materialized view plan_mat
reindex table accounts
drop table if exists nothing_here
drop view if exists nothing_here cascade ;; drop table if exists audit_log, nothing_here
create type mood as enum ('a', 'b') ;; create type hr.mood as enum ('c')
