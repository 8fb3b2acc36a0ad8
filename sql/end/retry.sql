-- retry: schedule jobs $2 to run again after $3 and not before $8, their attempts under lease $1 at worker $4
-- having ended for reasons $5 with errors $6; the attempt counts unless $7 is false; options become $9 and arguments
-- $10 where these are not null; where $11 is true, the rates that a job has passed let none through until then.
--
-- One statement, so that a job is never both running and scheduled, nor neither. $8, $9, $10 and $11 are null if all
-- their values are. A job with a cancel request is cancelled instead. Returns the jobs that this lease still held,
-- and whether each was cancelled.

with ended as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
    returning job_id, lane, started_at, attempt, losses
),
outcome as materialized (
    select ended.*, given.delay, given.reason, given.error, given.spent, given.not_before, given.options,
           given.arguments, given.slows
    from ended
    join unnest($2::uuid[], $3::interval[], $5::text[], $6::json[], $7::boolean[], $8::timestamptz[],
                $9::json[], $10::json[], $11::boolean[])
        as given (job_id, delay, reason, error, spent, not_before, options, arguments, slows)
        on given.job_id = ended.job_id
),
doomed as materialized (
    select job_id from pgqueue.cancel_request where job_id = any($2::uuid[])
),
waiting as (
    insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
    select job_id, greatest(now() + delay, not_before), lane, attempt - (not spent)::integer, losses
    from outcome
    where job_id <> all(array(select job_id from doomed))
    returning job_id
),
history as (
    insert into pgqueue.attempt (job_id, attempt, started_at, worker, version, reason, error)
    select job_id, attempt, started_at, $4, (select lease.version from pgqueue.lease where lease.id = $1), reason,
           error
    from outcome
),
over as (
    update pgqueue.job
    set started_at   = coalesce(job.started_at, outcome.started_at),
        options      = coalesce(outcome.options, job.options),
        arguments    = coalesce(outcome.arguments, job.arguments),
        status       = case when outcome.is_doomed then 'cancelled'::pgqueue.job_status end,
        completed_at = case when outcome.is_doomed then greatest(now(), outcome.started_at) end,
        attempt      = case when outcome.is_doomed then outcome.attempt end,
        worker       = case when outcome.is_doomed then $4 end,
        reason       = case when outcome.is_doomed then coalesce((
            select cancel_request.reason from pgqueue.cancel_request where cancel_request.job_id = job.id), 'cancelled') end
    from (
        select outcome.*, job_id = any(array(select job_id from doomed)) as is_doomed from outcome
    ) as outcome
    where job.id = outcome.job_id
      and job.id = any($2::uuid[])
    -- Of one that goes on waiting, its gates alone: it gives back what it holds.
    returning job.id, outcome.is_doomed, case when outcome.is_doomed then job.hooks else nullif(job.hooks & 4, 0) end as hooks
),
settled as materialized (
    -- The places first: they are marked.
    select case when count(hooks) > 0 and (select count(*) from waiting) is not null
                then case when $11::boolean[] is null
                     then pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks))
                     else pgqueue.settle_slowed(
                         array_agg(id) filter (where hooks is not null), bit_or(hooks),
                         array(select job_id from outcome where slows),
                         array(select greatest(now() + delay, not_before) from outcome where slows)) end end::text as settled
    from over
)
select over.id, over.is_doomed, settled.settled from over cross join settled
