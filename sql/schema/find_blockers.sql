-- find_blockers: the sessions that session $1 waits for, and what they do.

select pid, application_name, usename::text as role, state, left(query, 200) as query,
       pg_catalog.date_part('epoch', pg_catalog.now() - xact_start) as seconds
from pg_catalog.pg_stat_activity
where pid = any(pg_catalog.pg_blocking_pids($1))
order by pid
