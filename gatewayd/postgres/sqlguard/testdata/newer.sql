-- What only the newer servers understand, and COPY FROM STDIN: sent through the gateway only, where each must run as directly if the server itself runs it.
select any_value(name) from customers
select array_shuffle(array[1]), array_sample(array[1], 1)
select random_normal() is not null, random(1, 10) between 1 and 10, random(1.0, 2.0) between 1 and 2
select json_array(1, 2), json_object('a': 1), json_object('a' value 1 null on null with unique keys), json_arrayagg(id order by id), json_objectagg(id: name) from customers
select '{}' is json, '{}' is json object, '[1]' is json array with unique keys, '1' is not json scalar
select json_query('{"a":[1,2]}', '$.a' with wrapper), json_value('{"a":1}', '$.a' returning int default 0 on empty error on error), json_exists('{"a":1}', '$.a'), json_scalar(1), json_serialize('{"a":1}' returning bytea), json('{"a":1}' with unique keys)
select * from json_table('[{"a":1,"b":[1,2]}]', '$[*]' columns (n for ordinality, a int path '$.a', nested path '$.b[*]' columns (b int path '$'), x text path '$.z' default 'none' on empty, e boolean exists path '$.a')) as jt
select c.id, j.k from customers c, json_table(c.notes, '$' columns (k text path '$.k')) j
select jsonb_path_query('"2026-01-01"', '$.date()'), jsonb_path_query('"1"', '$.integer()')
merge into scratch s using (values (1, 'x')) v(id, v) on s.id = v.id when matched then update set v = v.v when not matched by target then insert values (v.id, v.v, 1) when not matched by source then delete returning merge_action(), s.*
merge into customers c using (values (1, 'M'), (88, 'N')) v(id, name) on c.id = v.id when matched then update set name = v.name when not matched then insert (id, name) values (v.id, v.name) returning merge_action(), c.id, c.name, v.name
merge into orders o using customers c on c.id = o.customer and c.country = 'nl' when matched then update set note = c.name returning o.id, o.note
with m as (merge into scratch s using orders o on s.id = o.id when not matched then insert (id, v) values (o.id, o.status) returning s.id) select count(*) from m
update orders set status = 'x' where id = 10 returning old.status, new.status, id
insert into scratch (id, v) values (1, 'a') on conflict (id) do update set v = excluded.v returning old.v, new.v, old is null
delete from orders where id = 10 returning old.*
update customers set name = 'x' where id = 1 returning old.name, new.name
update customers set name = 'x' where id = 1 returning old.email
select uuidv7() is not null, uuidv4() is not null, uuid_extract_version(uuidv7()), uuid_extract_timestamp(uuidv7()) > now() - interval '1 h'
select array_sort(array[3,1,2]), array_sort(array[3,1], true, false), array_reverse(array[1,2]), reverse('abc'::bytea), casefold('ABC'), crc32('a'), crc32c('a'), gamma(5), lgamma(3)
select to_bin(5), to_oct(8), to_hex(255), erf(0), erfc(0), unicode_version() is not null, unicode_assigned('a'), icu_unicode_version() is null or true
select 0xff, 0o17, 0b101, 1_000_000
select pg_input_is_valid('12', 'int'), (pg_input_error_info('x', 'int')).sql_error_code
select system_user is null or true, user, session_user
select date_add('2026-01-01'::timestamptz, '1 day', 'UTC'), date_subtract('2026-01-01'::timestamptz, '1 day')
select to_timestamp(0), 'infinity'::interval, 'today'::date = current_date
~explain (memory, serialize none, costs off, analyze, timing off, summary off, buffers off) select * from orders where id = 1
explain (generic_plan, costs off) select * from orders where id = $1
copy orders (id) to stdout (format csv, header match)
copy scratch (id, v) from stdin (on_error ignore, log_verbosity verbose)
copy scratch (id, v) from stdin (on_error ignore, reject_limit 3)
copy scratch (id, v) from stdin (format csv, default '\D')
copy order_mat to stdout
select * from pg_stat_io limit 0
select * from pg_wait_events limit 0
select * from pg_stat_checkpointer limit 0
select * from pg_stat_subscription_stats limit 0
select * from pg_shmem_allocations_numa limit 0
select * from pg_stat_progress_copy limit 0
select pg_get_acl('pg_class'::regclass, 'app.orders'::regclass, 0)
select has_largeobject_privilege(1, 'select')
select pg_basetype('app.address'::regtype), to_regtypemod('varchar(3)')
vacuum (buffer_usage_limit '1MB', process_main) app.orders
analyze (buffer_usage_limit '1MB') app.orders
set transaction_timeout = '10s'
set icu_validation_level = 'warning'
set enable_presorted_aggregate = on
set enable_group_by_reordering = on
set enable_distinct_reordering = on
set enable_self_join_elimination = on
set io_combine_limit = '128kB'
set vacuum_buffer_usage_limit = '1MB'
set debug_parallel_query = off
set restrict_nonsystem_relation_kind = 'view, foreign-table'
set jit_above_cost = 1
set recursive_worktable_factor = 10
set commit_siblings = 5
set client_connection_check_interval = 0
set stats_fetch_consistency = cache
set cpu_tuple_cost = 0.01 ;; set cpu_index_tuple_cost = 0.005 ;; set cpu_operator_cost = 0.0025 ;; set min_parallel_table_scan_size = 0
set temp_tablespaces = ''
set vacuum_cost_page_hit = 1
set xmlbinary = 'hex'
set default_statistics_target = 100
set autovacuum = off
set seed = 0.5
set geqo_effort = 5 ;; set geqo_pool_size = 0 ;; set geqo_generations = 0 ;; set geqo_selection_bias = 2 ;; set geqo_seed = 0
set session_replication_role = 'origin'
set local lock_timeout = '1s' ;; set idle_in_transaction_session_timeout to 0 ;; set idle_session_timeout = 0
set array_nulls = on
set bytea_output to 'hex' ;; set default_transaction_isolation to 'read committed'
set ssl_renegotiation_limit = 0
select * from pg_catalog.pg_stat_wal
copy app.scratch (id, v) from stdin with (format csv, header true)
copy app.scratch from stdin
