-- measure_schedules: how many schedules tick, are paused, and cannot tick; and by how many seconds the latest is late.
--
-- Not by due_at: after an error that is put off. An infinite time cannot be subtracted by servers before 17.

select count(*) filter (where paused_at is null and next_at is not null) as active,
       count(*) filter (where paused_at is not null) as paused,
       count(*) filter (where paused_at is null and error is not null) as failing,
       coalesce(max(extract(epoch from now() - greatest(next_at, now() - interval '1000 years')))
           filter (where paused_at is null and next_at < now()), 0)::double precision as overdue
from pgqueue.schedule
