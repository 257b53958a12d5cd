select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
    'schema', n.nspname, 'name', c.relname, 'relation', c.oid::pg_catalog.int8,
    'columns', coalesce(a.names, '[]'), 'numbers', coalesce(a.numbers, '[]'),
    'rule', coalesce(w.oid::pg_catalog.int8, 0), 'written', coalesce(w.xmin::pg_catalog.text, '')
  ) order by c.oid), '[]')::pg_catalog.text
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_rewrite w on w.ev_class = c.oid and w.rulename = '_RETURN'
  left join lateral (
    select pg_catalog.json_agg(a.attname order by a.attnum) as names, pg_catalog.json_agg(a.attnum order by a.attnum) as numbers
      from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) a on true
 where c.relkind in ('r','p','v','m','f','S') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
