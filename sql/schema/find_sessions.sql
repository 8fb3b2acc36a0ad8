-- find_sessions: what the sessions with the process ids $1 do; null state: there is none, or it is not told.

select asked.pid,
       session.pid is not null as is_there,
       -- In the middle of a message: what was sent so far has come, the rest was lost on the way.
       case when session.state = 'active' and session.wait_event = 'ClientRead' and session.query !~* '^\s*copy\M'
            then 'idle in a statement' else session.state end as state,
       extract(epoch from clock_timestamp() - session.state_change)::float8 as state_seconds,
       extract(epoch from clock_timestamp() - session.backend_start)::float8 as seconds,
       not pg_is_in_recovery() as is_primary
from unnest($1::int[]) as asked (pid)
left join pg_stat_activity as session on session.pid = asked.pid
