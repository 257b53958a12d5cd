-- One JSON text that describes the schema of a database, and none of its data.
-- It runs on PostgreSQL 15 to 18 under any role that may connect.
with recursive
skipped as (
  select n.oid from pg_catalog.pg_namespace n
   where n.nspname in ('pg_catalog', 'information_schema') or n.nspname ~ '^pg_(toast|temp)'
),
base(typ, final, typmod) as (
  select t.oid, t.oid, (-1)::int4 from pg_catalog.pg_type t where t.typtype <> 'd'
  union all
  select t.oid, b.final, case when b.typmod = -1 then t.typtypmod else b.typmod end
    from pg_catalog.pg_type t join base b on b.typ = t.typbasetype where t.typtype = 'd'
),
extension_object as (
  select d.classid, d.objid, e.extname
    from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
   where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'
),
relation as (
  select c.oid, n.nspname, c.relname, c.relkind
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where (c.relkind in ('r','p','v','m','f','S','c','i','I') and not exists (select from skipped s where s.oid = n.oid))
      or (n.nspname = 'pg_catalog' and c.relname in ('pg_stat_activity', 'pg_subscription', 'pg_db_role_setting', 'pg_roles', 'pg_user', 'pg_user_mappings', 'pg_stat_gssapi', 'pg_stat_ssl'))
),
col as (
  select a.attrelid, a.attnum, pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
      'name', a.attname,
      'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'class', t.typtype,
      'schema', bn.nspname,
      'base', bt.typname,
      'baseType', pg_catalog.format_type(b.final, m.typmod),
      'baseClass', bt.typtype,
      'category', bt.typcategory,
      'notNull', nullif(a.attnotnull, false),
      'generated', nullif(a.attgenerated, ''),
      'from', case when a.attgenerated <> '' then (
          select pg_catalog.json_agg(x.attname order by x.attnum)
            from pg_catalog.pg_attribute x
           where x.attrelid = a.attrelid and x.attnum > 0 and x.attnum <> a.attnum and exists (
             select from pg_catalog.pg_depend d join pg_catalog.pg_attrdef f on f.oid = d.objid
              where d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and f.adrelid = a.attrelid and f.adnum = a.attnum
                and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = a.attrelid and d.refobjsubid = x.attnum)) end
    )) as j
    from pg_catalog.pg_attribute a
    join relation r on r.oid = a.attrelid and r.relkind not in ('i','I')
    join pg_catalog.pg_type t on t.oid = a.atttypid
    join base b on b.typ = a.atttypid
    join pg_catalog.pg_type bt on bt.oid = b.final
    join pg_catalog.pg_namespace bn on bn.oid = bt.typnamespace
    cross join lateral (select case when t.typtype = 'd' then b.typmod else a.atttypmod end as typmod) m
   where a.attnum > 0 and not a.attisdropped
),
index_columns as (
  select i.indrelid, i.indexrelid, i.indisprimary, (
      select pg_catalog.json_agg(x.attname order by x.attnum)
        from pg_catalog.pg_attribute x
       where x.attrelid = i.indrelid and x.attnum > 0 and (x.attnum = any (i.indkey) or exists (
         select from pg_catalog.pg_depend d
          where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = i.indexrelid
            and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = i.indrelid and d.refobjsubid = x.attnum))) as names
    from pg_catalog.pg_index i join relation r on r.oid = i.indrelid
   where i.indisunique or i.indisexclusion
),
described as (
  select r.nspname, r.relname, r.relkind, pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
      'schema', r.nspname, 'name', r.relname, 'kind', r.relkind,
      'columns', (select pg_catalog.json_agg(c.j order by c.attnum) from col c where c.attrelid = r.oid),
      'primaryKey', (select i.names from index_columns i where i.indrelid = r.oid and i.indisprimary),
      'unique', (select pg_catalog.json_agg(i.names order by i.indexrelid) from index_columns i
                  where i.indrelid = r.oid and not i.indisprimary and i.names is not null),
      'keys', (select pg_catalog.json_object_agg(x.relname, i.names order by x.relname)
                 from index_columns i join pg_catalog.pg_class x on x.oid = i.indexrelid
                where i.indrelid = r.oid and i.names is not null),
      'reads', case when r.relkind in ('v','m') then (
          select pg_catalog.json_agg(distinct pg_catalog.concat(n.nspname, '.', c.relname))
            from pg_catalog.pg_rewrite w
            join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = w.oid
             and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> r.oid
            join pg_catalog.pg_class c on c.oid = d.refobjid
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where w.ev_class = r.oid) end,
      'calls', case when r.relkind in ('v','m') then (
          select pg_catalog.json_agg(distinct pg_catalog.concat(n.nspname, '.', p.proname))
            from pg_catalog.pg_rewrite w
            join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = w.oid
             and d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
            join pg_catalog.pg_proc p on p.oid = d.refobjid
            join pg_catalog.pg_namespace n on n.oid = p.pronamespace
           where w.ev_class = r.oid and n.nspname <> 'pg_catalog') end,
      'definition', case when r.relkind in ('v','m') and r.nspname <> 'pg_catalog' then pg_catalog.pg_get_viewdef(r.oid) end,
      'barrier', (select true from pg_catalog.pg_class b
                   where b.oid = r.oid and b.reloptions && array['security_barrier=true', 'security_barrier=on', 'security_barrier=1', 'security_barrier=yes']),
      'parents', (
          select pg_catalog.json_agg(pg_catalog.concat(n.nspname, '.', c.relname) order by i.inhseqno)
            from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhparent
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where i.inhrelid = r.oid and c.relkind not in ('i','I')),
      'rules', (select true from pg_catalog.pg_rewrite w where w.ev_class = r.oid and w.rulename <> '_RETURN' limit 1)
    )) as j
    from relation r
)
select pg_catalog.json_build_object(
  'format', 1,
  'server', (pg_catalog.current_setting('server_version_num')::int4 / 10000)::int4,
  'schemas', (select pg_catalog.json_agg(n.nspname order by n.nspname) from pg_catalog.pg_namespace n
               where not exists (select from skipped s where s.oid = n.oid)),
  'relations', coalesce((select pg_catalog.json_agg(d.j order by d.nspname, d.relname) from described d), '[]'),
  'types', coalesce((
      select pg_catalog.json_agg(pg_catalog.json_strip_nulls(pg_catalog.json_build_object('schema', n.nspname, 'name', t.typname, 'class', t.typtype,
               'labels', (select pg_catalog.json_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid),
               'extension', x.extname)) order by n.nspname, t.typname)
        from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
        left join extension_object x on x.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and x.objid = t.oid
       where not exists (select from skipped s where s.oid = n.oid) and t.typtype <> 'c' and t.typcategory <> 'A'), '[]'),
  'functions', coalesce((
      select pg_catalog.json_agg(f.j order by f.nspname, f.proname) from (
        select n.nspname, p.proname, pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
                 'schema', n.nspname, 'name', p.proname,
                 'extension', case when pg_catalog.bool_and(x.extname is not null) then pg_catalog.min(x.extname) end)) as j
          from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
          left join extension_object x on x.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and x.objid = p.oid
         where not exists (select from skipped s where s.oid = n.oid)
         group by n.nspname, p.proname) f), '[]'),
  'operators', coalesce((
      select pg_catalog.json_agg(o.j order by o.nspname, o.oprname) from (
        select n.nspname, o.oprname, pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
                 'schema', n.nspname, 'name', o.oprname,
                 'extension', case when pg_catalog.bool_and(x.extname is not null) then pg_catalog.min(x.extname) end)) as j
          from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
          left join extension_object x on x.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass and x.objid = o.oid
         where n.nspname <> 'pg_catalog'
         group by n.nspname, o.oprname) o), '[]'),
  'casts', coalesce((
      select pg_catalog.json_agg(pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
               'schema', n.nspname, 'name', t.typname, 'extension', x.extname)) order by n.nspname, t.typname, c.oid)
        from pg_catalog.pg_cast c
        join pg_catalog.pg_proc p on p.oid = c.castfunc
        join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace and pn.nspname <> 'pg_catalog'
        join pg_catalog.pg_type t on t.oid = c.casttarget
        join pg_catalog.pg_namespace n on n.oid = t.typnamespace
        left join extension_object x on x.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass and x.objid = c.oid), '[]')
)::text
