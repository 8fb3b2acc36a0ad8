-- release: return jobs $2 of lease $1 at worker $3 to the queue, at their old positions; the attempt does not count.
--
-- A job with a cancel request is cancelled instead, because it would run again. Returns the jobs that this lease
-- still held, their lanes, and whether each was cancelled.

with ended as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
    returning job_id, ready_at, started_at, position, lane, attempt, losses
),
doomed as materialized (
    select job_id from pgqueue.cancel_request where job_id = any($2::uuid[])
),
history as (
    insert into pgqueue.attempt (job_id, attempt, started_at, worker, version, reason)
    select job_id, attempt, started_at, $3, (select lease.version from pgqueue.lease where lease.id = $1),
           case when job_id = any(array(select job_id from doomed)) then 'cancelled' else 'released' end
    from ended where started_at is not null
),
given_back as (
    insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
    select job_id, ready_at, position, lane, attempt - (started_at is not null)::integer, losses
    from ended where job_id <> all(array(select job_id from doomed))
),
cancelled as (
    update pgqueue.job
    set status       = 'cancelled',
        started_at   = coalesce(job.started_at, ended.started_at),
        completed_at = greatest(now(), ended.started_at),
        attempt      = nullif(ended.attempt, 0),
        worker       = $3,
        reason       = coalesce((
        select cancel_request.reason from pgqueue.cancel_request where cancel_request.job_id = job.id), 'cancelled')
    from ended
    where job.id = ended.job_id
      and job.id = any(array(select job_id from doomed))
    returning job.id, job.hooks
),
settled as materialized (
    select case when count(hooks) > 0
                then pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks)) end::text as settled
    from cancelled
)
select job_id as id, lane, job_id = any(array(select job_id from doomed)) as is_cancelled, settled.settled
from ended cross join settled
