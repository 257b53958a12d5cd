-- What only the server knows is decided there, so that this text depends on the documents and the catalog alone.
do $sallyport$
declare
	who constant name := '{{role}}';
	member record;
begin
	if not exists (select from pg_catalog.pg_roles where rolname = who) then
		execute pg_catalog.format('create role %I login', who);
	end if;
	if current_user = who then
		raise exception 'this is to be run by another role than the gateway''s own' using hint = 'connect as the owner of the database, or as a superuser';
	end if;
	-- Only a superuser may change some of these, so each is changed only where it has to be.
	if (select rolsuper from pg_catalog.pg_roles where rolname = who) then execute pg_catalog.format('alter role %I nosuperuser', who); end if;
	if (select rolreplication from pg_catalog.pg_roles where rolname = who) then execute pg_catalog.format('alter role %I noreplication', who); end if;
	if (select rolbypassrls from pg_catalog.pg_roles where rolname = who) then execute pg_catalog.format('alter role %I nobypassrls', who); end if;
	if (select rolcreaterole from pg_catalog.pg_roles where rolname = who) then execute pg_catalog.format('alter role %I nocreaterole', who); end if;
	if (select rolcreatedb from pg_catalog.pg_roles where rolname = who) then execute pg_catalog.format('alter role %I nocreatedb', who); end if;
	-- A member can do what its groups can: pg_read_all_data, pg_monitor, the owner of the tables …
	for member in select g.rolname from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid
		where m.member = (select oid from pg_catalog.pg_roles where rolname = who) loop
		execute pg_catalog.format('revoke %I from %I', member.rolname, who);
	end loop;
end
$sallyport$;

-- Everything that it may do in this database is said below, and nothing else.
do $sallyport$
declare
	who constant name := '{{role}}';
	place record;
begin
	execute pg_catalog.format('revoke all on database %I from %I', pg_catalog.current_database(), who);
	execute pg_catalog.format('grant connect on database %I to %I', pg_catalog.current_database(), who);
	for place in select nspname from pg_catalog.pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' order by 1 loop
		execute pg_catalog.format('revoke all on all tables in schema %1$I from %2$I', place.nspname, who);
		execute pg_catalog.format('revoke all on all sequences in schema %1$I from %2$I', place.nspname, who);
		execute pg_catalog.format('revoke all on all routines in schema %1$I from %2$I', place.nspname, who);
		execute pg_catalog.format('revoke all on schema %1$I from %2$I', place.nspname, who);
	end loop;
end
$sallyport$;
