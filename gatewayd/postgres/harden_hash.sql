-- The key of stable hashes never leaves the database, and nobody but the owner of this schema can read it. It is made once.
create schema if not exists {{schema}};
revoke all on schema {{schema}} from public;
create table if not exists {{schema}}.hash_key (one boolean primary key default true check (one), key text not null);
revoke all on {{schema}}.hash_key from public;
insert into {{schema}}.hash_key (key) select pg_catalog.replace(pg_catalog.gen_random_uuid()::text || pg_catalog.gen_random_uuid()::text, '-', '') on conflict do nothing;
create or replace function {{function}}(value text) returns text language sql stable strict parallel safe security definer set search_path = pg_catalog, pg_temp as $sallyport$
	select encode(sha256(convert_to(k.key || encode(sha256(convert_to(k.key || $1, 'UTF8')), 'hex'), 'UTF8')), 'hex') from {{schema}}.hash_key k
$sallyport$;
revoke all on function {{function}}(text) from public;
grant usage on schema {{schema}} to {{role}};
grant execute on function {{function}}(text) to {{role}};
