-- find_missing_rights: what the session's role lacks to run a worker with the tables $1 and the functions $2.

select needed.privilege || ' on ' || relation.relname as missing
from pg_class as relation
cross join unnest(array['select', 'insert', 'update', 'delete']) as needed (privilege)
where relation.relnamespace = to_regnamespace('pgqueue')::oid
  and relation.relkind in ('r', 'p')
  and relation.relname::text = any($1::text[])
  and not has_table_privilege(relation.oid, needed.privilege)
union all
select 'usage on sequence position'
where not has_sequence_privilege('pgqueue.position', 'usage')
union all
select distinct 'execute on function ' || routine.proname
from pg_proc as routine
where routine.pronamespace = to_regnamespace('pgqueue')::oid
  and routine.proname::text = any($2::text[])
  and not has_function_privilege(routine.oid, 'execute')
order by 1
