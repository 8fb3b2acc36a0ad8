-- queue_strays: put those of jobs $1 that have not ended and stand nowhere where they belong: among the scheduled
-- ones if their time has not come, otherwise at the end of their lane.
--
-- The record is locked first, as in every statement that ends a waiting job. The attempts that are on record count.
-- Returns the jobs and their lanes.

with stray as materialized (
    select job.id, job.lane, job.run_at, job.hooks,
           -- What waits for others goes on waiting: the sweep finds out for how long.
           job.workflow_id is not null and (
               select true from pgqueue.edge where edge.downstream = job.id and edge.outcome is null limit 1
           ) is true as waits,
           (select coalesce(max(attempt.attempt), 0) from pgqueue.attempt where attempt.job_id = job.id) as attempt
    from pgqueue.job
    where job.id = any($1::uuid[])
      and job.status is null
      and not exists (select from pgqueue.ready where ready.job_id = job.id)
      and not exists (select from pgqueue.running where running.job_id = job.id)
      and not exists (select from pgqueue.scheduled where scheduled.job_id = job.id)
      and not exists (select from pgqueue.blocked where blocked.job_id = job.id)
    for update skip locked
),
held_back as (
    insert into pgqueue.blocked (job_id, lane, attempt)
    select id, lane, attempt from stray where waits
    on conflict do nothing
    returning job_id
),
waiting as (
    insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt)
    select id, run_at, lane, attempt from stray where not waits and run_at > now()
    on conflict do nothing
    returning job_id
),
queued as (
    insert into pgqueue.ready (job_id, lane, attempt)
    select id, lane, attempt from stray where not waits and (run_at is null or run_at <= now()) order by id
    on conflict do nothing
    returning job_id
)
select id, lane
from stray
-- Those with gates go to them.
cross join (
    select case when exists (select from stray where hooks & 4 > 0)
                then pgqueue.gate_in(array(select id from stray where hooks & 4 > 0),
                                     (select count(*) from queued) + (select count(*) from waiting)
                                     + (select count(*) from held_back)) end as notes
    offset 0
) as gates
