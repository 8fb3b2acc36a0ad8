-- plan_moves: the statements that have $1 seconds pass for all that is stored as a time, and for leases if $2.
--
-- As the catalog has the columns. Leases are renewed by workers that live now, whatever time the jobs have.

select pg_catalog.format(
    'update pgqueue.%I set %s where %s',
    relation.relname,
    pg_catalog.string_agg(
        pg_catalog.format('%1$I = %1$I - pg_catalog.make_interval(secs => %2$L)', times.attname, $1::float8), ', '),
    pg_catalog.string_agg(pg_catalog.format('pg_catalog.isfinite(%I)', times.attname), ' or '))
from pg_catalog.pg_class as relation
join pg_catalog.pg_attribute as times
  on times.attrelid = relation.oid and times.attnum > 0 and not times.attisdropped
 and times.atttypid = 'pg_catalog.timestamptz'::pg_catalog.regtype
where relation.relnamespace = 'pgqueue'::pg_catalog.regnamespace
  and relation.relkind in ('r', 'p') and not relation.relispartition
  and relation.relname <> 'migration' and (relation.relname <> 'lease' or $2::boolean)
group by relation.relname
order by relation.relname
