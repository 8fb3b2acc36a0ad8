-- carry_out_cancels: carry out up to $1 cancel requests, except those of jobs $2, whose job is no longer running under the lease they name.
--
-- The attempt ended while the request was being written. A job that waits for its next attempt is cancelled now, and
-- an ended job stays as it is. Returns the jobs with their answers, as cancel_jobs does, and the reasons.

with due as materialized (
    select job_id from pgqueue.cancel_request
    where job_id <> all($2::uuid[])
      and not exists (
          select from pgqueue.running
          where running.job_id = cancel_request.job_id and running.lease_id = cancel_request.lease_id
      )
    order by job_id
    limit $1
    for update skip locked
),
settled as (
    delete from pgqueue.cancel_request
    where job_id = any(array(select job_id from due))
    returning job_id, reason, actor
),
stood as materialized (
    select job.*, settled.reason, settled.actor
    from settled
    cross join lateral (
        select id, task, queue, status::text as was, attempt from pgqueue.jobs where jobs.id = settled.job_id offset 0
    ) as job
)
-- A row that somebody wrote may hold longer texts than a call takes.
select id, task, queue, was, attempt, reason, pgqueue.cancel(id, left(reason, 1000), left(actor, 1000)) as answer
from stood
