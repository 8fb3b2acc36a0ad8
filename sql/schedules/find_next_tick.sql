-- find_next_tick: in how many seconds a schedule is due; null: none ever is.

select extract(epoch from least(due_at, now() + interval '1 day') - now())::double precision
from pgqueue.schedule
where paused_at is null and due_at is not null
order by due_at
limit 1
