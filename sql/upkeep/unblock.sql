-- unblock: unblock up to $1 jobs except $2 whose predecessor has ended or is gone.
--
-- They become pending, or scheduled if their time has not come. Returns each, and which of the two it is. The
-- predecessor is looked up by key, one at a time: as a join it would be hashed whole.

with free as materialized (
    select job_id
    from pgqueue.blocked
    where waits_for is not null
      and job_id <> all($2::uuid[])
      and (select job.status is null from pgqueue.job where job.id = blocked.waits_for) is not true
    limit $1
    for update skip locked
),
moved as (
    delete from pgqueue.blocked
    where job_id = any(array(select job_id from free))
    returning job_id, lane, attempt, losses, gated
),
timed as materialized (
    select moved.*, job.task, job.run_at
    from moved
    join pgqueue.job on job.id = moved.job_id
    where job.id = any(array(select job_id from free))
),
waiting as (
    insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
    select job_id, run_at, lane, attempt, losses from timed where run_at > now()
    on conflict do nothing
    returning job_id
),
queued as (
    insert into pgqueue.ready (job_id, lane, attempt, losses)
    select job_id, lane, attempt, losses from timed where run_at is null or run_at <= now() order by job_id
    on conflict do nothing
    returning job_id
)
select job_id as id, task, (select lane.queue from pgqueue.lane where lane.id = timed.lane) as queue, 'blocked' as was,
       attempt, lane, (run_at > now()) is true as is_scheduled
from timed
-- Those with gates go to them.
cross join (
    select case when exists (select from timed where gated)
                then pgqueue.gate_in(array(select job_id from timed where gated),
                                     (select count(*) from queued) + (select count(*) from waiting)) end as notes
    offset 0
) as gates
