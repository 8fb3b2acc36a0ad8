-- read_rights: what the session's role may do in the schema; no parameters. Raises nothing, whatever is missing.

select role, enters,
       case when enters then coalesce(
           has_table_privilege(to_regclass('pgqueue.migration')::oid, 'select'), true) end as reads_version,
       case when enters then coalesce(
           has_table_privilege(to_regclass('pgqueue.job')::oid, 'select'), true) end as reads,
       case when enters then coalesce(
           has_table_privilege(to_regclass('pgqueue.job')::oid, 'insert')
           and has_table_privilege(to_regclass('pgqueue.ready')::oid, 'insert'), true) end as writes,
       case when enters then coalesce(
           has_function_privilege(to_regprocedure('pgqueue.submit(json)')::oid, 'execute'), false) end as submits
from (
    select current_user::text as role,
           coalesce(has_schema_privilege(to_regnamespace('pgqueue')::oid, 'usage'), false) as enters
    offset 0
) as of_role
