-- fail: end jobs $2 with statuses $3, reasons $5 and errors $6 under lease $1 at worker $4.
--
-- For every end except success. An expired job was never started, so it has no attempt to record.
-- Returns the jobs that this lease still held.

with ended as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
    returning job_id, started_at, attempt
),
outcome as materialized (
    select ended.job_id, given.status::pgqueue.job_status as status, given.reason, given.error,
           case when given.status <> 'expired' then ended.started_at end as started_at,
           case when given.status <> 'expired' then ended.attempt else nullif(ended.attempt - 1, 0) end as attempt
    from ended
    join unnest($2::uuid[], $3::text[], $5::text[], $6::json[])
        as given (job_id, status, reason, error) on given.job_id = ended.job_id
),
over as (
    update pgqueue.job
    set status       = outcome.status,
        started_at   = coalesce(job.started_at, outcome.started_at),
        completed_at = greatest(now(), outcome.started_at),
        attempt      = outcome.attempt,
        worker       = $4,
        reason       = outcome.reason,
        error        = outcome.error
    from outcome
    where job.id = outcome.job_id
      and job.id = any($2::uuid[])
    returning job.id, job.hooks
),
history as (
    -- Behind the record: what enters the dead letters reads there that the job has failed.
    insert into pgqueue.attempt (job_id, attempt, started_at, worker, version, reason, error)
    select job_id, attempt, started_at, $4, (select lease.version from pgqueue.lease where lease.id = $1), reason, error
    from outcome where status <> 'expired' and job_id = any(array(select id from over))
),
settled as materialized (
    select case when count(hooks) > 0
                then pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks)) end::text as settled
    from over
)
select over.id, settled.settled from over cross join settled
