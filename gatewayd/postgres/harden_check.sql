-- What the role could do by another way (PUBLIC, or as an owner) is no part of this text's grants: then nothing of it holds.
do $sallyport$
declare
	who constant name := '{{role}}';
	more text;
begin
	select pg_catalog.string_agg(p.what, '; ' order by p.what) into more from (
		select 'it reads ' || v.relation || '.' || v.col as what from (values {{withheld}}) v(relation, col)
			where v.relation <> '' and pg_catalog.to_regclass(v.relation) is not null and exists (
				select from pg_catalog.pg_attribute a where a.attrelid = pg_catalog.to_regclass(v.relation) and a.attname = v.col
					and pg_catalog.has_column_privilege(who, a.attrelid, a.attnum, 'SELECT'))
		union all
		select 'it owns ' || c.oid::pg_catalog.regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
			where pg_catalog.pg_has_role(who, c.relowner, 'MEMBER') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_'
		union all
		select 'it may create in schema ' || n.nspname from pg_catalog.pg_namespace n
			where pg_catalog.has_schema_privilege(who, n.oid, 'CREATE') and n.nspname !~ '^pg_' and n.nspname not in ({{creates}})
		union all
		select 'it owns the database' from pg_catalog.pg_database d where d.datname = pg_catalog.current_database() and pg_catalog.pg_has_role(who, d.datdba, 'MEMBER')
	) p;
	if more is not null then
		raise exception 'role % can do more than is granted here: %', who, more
			using hint = 'take that away first (revoke … from public, alter … owner to …), then run this again; nothing was changed';
	end if;
end
$sallyport$;
