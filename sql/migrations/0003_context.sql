-- 0003 context: what a running job keeps beside its record: the results of its steps, and its progress.
-- works with: 1
-- Workers may keep running: those from before neither read nor write any of it.

-- A step's result, stored once: a rerun of the job reads it and does not run the step again.
create table pgqueue.step (
    job_id      uuid not null,
    name        text not null check (length(name) between 1 and 200),
    result      json not null,
    recorded_at timestamptz not null default now(),
    primary key (job_id, name)
);

-- How far a job has come, as its handler reported it last. Pages keep room: it is written again and again.
create table pgqueue.progress (
    job_id      uuid primary key,
    value       json not null,           -- {current, total, meta}
    reported_at timestamptz not null default now()
) with (fillfactor = 70);

-- Every job with its status. Lane and lease are looked up by key, one at a time: as joins, they would be
-- hashed whole for each job that is read.
create or replace view pgqueue.jobs as
select job.id, stands.status,
       (select lane.queue from pgqueue.lane where lane.id = job.lane) as queue,
       (select lane.priority from pgqueue.lane where lane.id = job.lane) as priority,
       job.task, job.arguments,
       coalesce(job.attempt, running.attempt, ready.attempt, scheduled.attempt, blocked.attempt, 0) as attempt,
       coalesce(running.losses, ready.losses, scheduled.losses, blocked.losses, 0) as losses,
       job.created_at, coalesce(job.started_at, running.started_at) as started_at, job.completed_at,
       scheduled.scheduled_at as next_run_at, job.run_at, job.expires_at,
       coalesce(job.worker, (select lease.worker from pgqueue.lease where lease.id = running.lease_id)) as worker,
       job.result, job.reason, job.error, last.reason as last_reason, last.error as last_error,
       job.options, job.headers, job.tags, job.key,
       (select progress.value from pgqueue.progress where progress.job_id = job.id) as progress
from pgqueue.job
left join pgqueue.ready on ready.job_id = job.id
left join pgqueue.running on running.job_id = job.id
left join pgqueue.scheduled on scheduled.job_id = job.id
left join pgqueue.blocked on blocked.job_id = job.id
left join lateral (
    select attempt.reason, attempt.error
    from pgqueue.attempt
    where attempt.job_id = job.id
    order by attempt.id desc
    limit 1
) as last on true
cross join lateral (
    select case
        when job.status is not null then job.status
        when running.started_at is not null then 'running'
        when running.job_id is not null or ready.job_id is not null then 'pending'
        when scheduled.job_id is not null then 'scheduled'
        when blocked.job_id is not null then 'blocked'
    end::pgqueue.job_status as status
) as stands;
