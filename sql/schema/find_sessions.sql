-- find_sessions: what the sessions with the process ids $1 do; null state: there is none, or it is not told.

select asked.pid,
       session.pid is not null as is_there,
       session.state,
       extract(epoch from clock_timestamp() - session.state_change)::float8 as state_seconds,
       extract(epoch from clock_timestamp() - session.backend_start)::float8 as seconds,
       not pg_is_in_recovery() as is_primary
from unnest($1::int[]) as asked (pid)
left join pg_stat_activity as session on session.pid = asked.pid
