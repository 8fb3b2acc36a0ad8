-- retry: schedule jobs $2 to run again after $3, their attempts under lease $1 at worker $4 having
-- ended for reasons $5 with errors $6; where $7 is false the attempt is not spent.
--
-- One statement: the job is never both running and scheduled, nor neither. Returns the jobs that
-- were still this lease's.

with ended as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
    returning job_id, lane, started_at, attempt, losses
),
outcome as materialized (
    select ended.*, given.delay, given.reason, given.error, given.spent
    from ended
    join unnest($2::uuid[], $3::interval[], $5::text[], $6::json[], $7::boolean[])
        as given (job_id, delay, reason, error, spent) on given.job_id = ended.job_id
),
waiting as (
    insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
    select job_id, now() + delay, lane, attempt - (not spent)::integer, losses from outcome
),
history as (
    insert into pgqueue.attempt (job_id, attempt, started_at, worker, reason, error)
    select job_id, attempt, started_at, $4, reason, error from outcome
)
update pgqueue.job
set started_at = coalesce(job.started_at, outcome.started_at)
from outcome
where job.id = outcome.job_id
  and job.id = any($2::uuid[])
returning job.id
