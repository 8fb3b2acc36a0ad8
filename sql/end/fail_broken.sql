-- fail_broken: fail job $1, wherever it waits, for reason $2 with error $3 at worker $4; if it is running, under
-- lease $5 alone or under one that is gone.
--
-- For a job at which a statement fails. No stored value is computed with here, so that this cannot fail at it, too.
-- Returns the job if it was failed.

with from_ready as (
    delete from pgqueue.ready where job_id = $1 returning attempt, null::timestamptz as started_at
),
from_scheduled as (
    delete from pgqueue.scheduled where job_id = $1 returning attempt, null::timestamptz as started_at
),
from_blocked as (
    delete from pgqueue.blocked where job_id = $1 returning attempt, null::timestamptz as started_at
),
from_running as (
    delete from pgqueue.running
    where job_id = $1
      and (lease_id = $5 or not exists (
          select from pgqueue.lease where lease.id = running.lease_id and lease.expires_at > now()
      ))
    returning attempt, started_at
),
stood as materialized (
    select * from from_running
    union all select * from from_ready
    union all select * from from_scheduled
    union all select * from from_blocked
    limit 1
),
judged as materialized (
    select job.id, coalesce(stood.attempt, 0) as attempt, stood.started_at
    from pgqueue.job
    left join stood on true
    where job.id = $1
      and job.status is null
      and not exists (
          select from pgqueue.running
          join pgqueue.lease on lease.id = running.lease_id
          where running.job_id = $1 and running.lease_id is distinct from $5 and lease.expires_at > now()
      )
),
over as (
    update pgqueue.job
    set status = 'failed', completed_at = now(), attempt = nullif(judged.attempt, 0), worker = $4, reason = $2,
        error = $3::json
    from judged
    where job.id = judged.id
      and job.id = $1
    returning job.id, job.hooks
),
history as (
    -- Behind the record: see fail.
    insert into pgqueue.attempt (job_id, attempt, started_at, worker, reason, error)
    select id, attempt, started_at, $4, $2, $3::json from judged where id = any(array(select id from over))
),
settled as materialized (
    select case when count(hooks) > 0
                then pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks)) end::text as settled
    from over
)
select over.id, settled.settled from over cross join settled
