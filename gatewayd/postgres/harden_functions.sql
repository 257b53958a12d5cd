-- Functions that run SQL in a string, reach large objects and the write-ahead log, or end others' sessions. The guard
-- refuses them; here the server does, too. PUBLIC may call them by default, which also means every other role: those that
-- are there today keep it by a grant of their own, later ones need one. Where the role that runs this may not, nothing is changed.
do $sallyport$
declare
	who constant name := '{{role}}';
	f record;
	other record;
begin
	for f in
		select p.oid::pg_catalog.regprocedure as signature, case p.prokind when 'p' then 'procedure' else 'function' end as kind
		from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
		where (n.nspname = 'pg_catalog' and p.proname in ('query_to_xml', 'query_to_xmlschema', 'query_to_xml_and_xmlschema', 'cursor_to_xml', 'cursor_to_xmlschema',
				'table_to_xml', 'table_to_xmlschema', 'table_to_xml_and_xmlschema', 'schema_to_xml', 'schema_to_xmlschema', 'schema_to_xml_and_xmlschema',
				'database_to_xml', 'database_to_xmlschema', 'database_to_xml_and_xmlschema', 'ts_stat', 'pg_logical_emit_message', 'pg_export_snapshot',
				'pg_cancel_backend', 'pg_terminate_backend',
				'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_get', 'lo_open', 'lo_put', 'lo_unlink', 'loread', 'lowrite')
			or exists (select from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
				where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
					and e.extname in ('dblink', 'tablefunc', 'xml2', 'adminpack', 'pageinspect', 'pg_visibility')))
			and pg_catalog.has_function_privilege(who, p.oid, 'EXECUTE')
		order by p.oid::pg_catalog.regprocedure::text
	loop
		begin
			for other in select rolname from pg_catalog.pg_roles where rolname not in (who) and rolname !~ '^pg_' and not rolsuper order by 1 loop
				execute pg_catalog.format('grant execute on %s %s to %I', f.kind, f.signature, other.rolname);
			end loop;
			execute pg_catalog.format('revoke execute on %s %s from public, %I', f.kind, f.signature, who);
		exception when insufficient_privilege then
			raise warning 'EXECUTE on % stays with PUBLIC: only its owner or a superuser may revoke it', f.signature;
		end;
	end loop;
end
$sallyport$;
