-- What the roles of a database may do, as one JSON value, by what the server itself answers: grants, columns,
-- membership, ownership and PUBLIC together. pg_roles shows no password hash, and nothing here reads data.
select pg_catalog.jsonb_build_object(
	'server', current_setting('server_version'),
	'database', current_database(),
	'roles', (
		select coalesce(jsonb_agg(jsonb_build_object(
			'name', r.rolname, 'superuser', r.rolsuper, 'replication', r.rolreplication, 'bypassesRowSecurity', r.rolbypassrls,
			'createsRoles', r.rolcreaterole, 'createsDatabases', r.rolcreatedb, 'connections', r.rolconnlimit,
			'until', case when isfinite(r.rolvaliduntil) then to_char(r.rolvaliduntil at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end,
			'settings', (select count(*) from pg_db_role_setting s where s.setrole = r.oid),
			'inherits', (select coalesce(jsonb_agg(m.rolname order by m.rolname), '[]') from pg_roles m
				where m.oid <> r.oid and not r.rolsuper and pg_has_role(r.oid, m.oid, 'USAGE')),
			'mayBecome', (select coalesce(jsonb_agg(m.rolname order by m.rolname), '[]') from pg_roles m
				where m.oid <> r.oid and not r.rolsuper and pg_has_role(r.oid, m.oid, 'MEMBER') and not pg_has_role(r.oid, m.oid, 'USAGE')),
			'creates', (select coalesce(jsonb_agg(n.nspname order by n.nspname), '[]') from pg_namespace n
				where n.nspname !~ '^(pg_|information_schema$)' and not r.rolsuper and has_schema_privilege(r.oid, n.oid, 'CREATE')),
			'functions', (select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
				where n.nspname !~ '^(pg_|information_schema$)' and not r.rolsuper
				and has_schema_privilege(r.oid, n.oid, 'USAGE') and has_function_privilege(r.oid, p.oid, 'EXECUTE'))
		) order by r.rolname), '[]')
		from pg_roles r where r.rolcanlogin and has_database_privilege(r.oid, current_database(), 'CONNECT')),
	'grants', (
		select coalesce(jsonb_agg(jsonb_build_object(
			'role', g.rolname, 'schema', g.nspname, 'relation', g.relname, 'kind', g.relkind,
			'privileges', g.privileges, 'columns', g.columns,
			'owns', g.owns, 'reachable', g.reachable, 'grantable', g.grantable, 'rowSecurity', g.relrowsecurity
		) order by g.rolname, g.nspname, g.relname), '[]')
		from (
			select r.rolname, n.nspname, c.relname, c.relkind, c.relrowsecurity,
				(select coalesce(jsonb_agg(p.name order by p.at), '[]')
					from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) with ordinality p (name, at)
					where has_table_privilege(r.oid, c.oid, p.name)) as privileges,
				(select coalesce(jsonb_object_agg(p.name, p.names), '{}') from (
					select q.name, jsonb_agg(a.attname order by a.attnum) as names
					from unnest(array['SELECT', 'INSERT', 'UPDATE']) q (name) join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
					where not has_table_privilege(r.oid, c.oid, q.name) and has_column_privilege(r.oid, c.oid, a.attnum, q.name)
					group by q.name) p) as columns,
				pg_has_role(r.oid, c.relowner, 'USAGE') as owns,
				has_schema_privilege(r.oid, n.oid, 'USAGE') as reachable,
				has_table_privilege(r.oid, c.oid, 'SELECT WITH GRANT OPTION, INSERT WITH GRANT OPTION, UPDATE WITH GRANT OPTION, DELETE WITH GRANT OPTION, TRUNCATE WITH GRANT OPTION') as grantable
			from pg_roles r cross join pg_class c join pg_namespace n on n.oid = c.relnamespace
			where r.rolcanlogin and not r.rolsuper and has_database_privilege(r.oid, current_database(), 'CONNECT')
				and c.relkind = any ('{r,p,v,m,f}'::"char"[]) and n.nspname !~ '^(pg_|information_schema$)'
				and (has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') or has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE, TRIGGER'))
		) g)
)::text
