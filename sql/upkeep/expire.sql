-- expire: end up to $1 jobs except $2 that did not start by their expiry, wherever they wait.
--
-- For jobs that no worker reaches: those in queues that are paused or have no worker, those waiting for a retry, and
-- blocked ones. A running job may come back to wait, so it is checked again after ten seconds, and then at growing
-- intervals. Locked records are skipped until then. Returns the jobs, and where each was.

with due as materialized (
    select job_id from pgqueue.expiry
    where check_at <= now() and job_id <> all($2::uuid[])
    order by check_at limit $1 for update skip locked
),
live as materialized (
    select job.id, job.expires_at
    from pgqueue.job
    where job.id = any(array(select job_id from due))
      and job.status is null
      and job.expires_at is not null
),
waiting as materialized (
    select job_id from pgqueue.ready where job_id = any(array(select job_id from due))
    union all
    select job_id from pgqueue.scheduled where job_id = any(array(select job_id from due))
    union all
    select job_id from pgqueue.blocked where job_id = any(array(select job_id from due))
    union all
    select job_id from pgqueue.running where job_id = any(array(select job_id from due)) and started_at is null
),
locked as materialized (
    -- The record is locked first, as in every statement that ends a waiting job.
    select job.id
    from pgqueue.job
    where job.id = any(array(select job_id from waiting))
      and job.status is null
      and job.expires_at <= now()
    for update skip locked
),
from_ready as (
    delete from pgqueue.ready where job_id = any(array(select id from locked)) returning job_id, attempt
),
from_scheduled as (
    delete from pgqueue.scheduled where job_id = any(array(select id from locked)) returning job_id, attempt
),
from_blocked as (
    delete from pgqueue.blocked where job_id = any(array(select id from locked)) returning job_id, attempt
),
from_running as (
    delete from pgqueue.running
    where job_id = any(array(select id from locked)) and started_at is null
    returning job_id, attempt
),
ended as materialized (
    select job_id, attempt, 'pending' as was from from_ready
    union all select job_id, attempt, 'scheduled' as was from from_scheduled
    union all select job_id, attempt, 'blocked' as was from from_blocked
    union all select job_id, attempt, 'pending' as was from from_running
),
forgotten as (
    delete from pgqueue.expiry
    where job_id = any(array(select job_id from due))
      and (job_id = any(array(select job_id from ended)) or job_id <> all(array(select id from live)))
),
postponed as (
    update pgqueue.expiry
    -- Subtracted only from a time that is finite: before PostgreSQL 17, an infinite one cannot be.
    set check_at = greatest(live.expires_at, now() + greatest(interval '10 seconds', case
        when live.expires_at > now() - interval '1 year' and isfinite(live.expires_at) then now() - live.expires_at
        else interval '1 year' end))
    from live
    where expiry.job_id = live.id
      and expiry.job_id = any(array(select job_id from due))
      and expiry.job_id <> all(array(select job_id from ended))
),
over as (
    update pgqueue.job
    set status = 'expired', completed_at = now(), attempt = nullif(ended.attempt, 0), reason = 'expired'
    from ended
    where job.id = ended.job_id
      and job.id = any(array(select id from locked))
    returning job.id, job.task, (select lane.queue from pgqueue.lane where lane.id = job.lane) as queue, ended.attempt,
              ended.was, job.hooks
),
settled as materialized (
    select case when count(hooks) > 0
                then pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks)) end::text as settled
    from over
)
select over.id, over.task, over.queue, over.attempt, over.was, settled.settled from over cross join settled
