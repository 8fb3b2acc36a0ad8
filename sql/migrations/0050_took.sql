-- 0050 took: how long the attempt of a job took that succeeded, also where it was not the first.
-- works with: 1
-- Workers may keep running: of what they finish after a retry, the time of the last attempt stays unknown.

alter table pgqueue.job add column last_started_at timestamptz;   -- of the attempt that succeeded; null: the first

create or replace view pgqueue.jobs as
select job.id, stands.status,
       (select lane.queue from pgqueue.lane where lane.id = job.lane) as queue,
       (select lane.priority from pgqueue.lane where lane.id = job.lane) as priority,
       job.task, job.arguments,
       coalesce(job.attempt, running.attempt, ready.attempt, scheduled.attempt, blocked.attempt, 0) as attempt,
       coalesce(running.losses, ready.losses, scheduled.losses, blocked.losses,
                -- One that has ended: since it started, because a redrive begins anew.
                case when last.reason is not null then (
                    select count(*)::integer from pgqueue.attempt
                    where attempt.job_id = job.id and attempt.reason = 'lost' and attempt.started_at >= job.started_at
                ) end, 0) as losses,
       job.created_at, coalesce(job.started_at, running.started_at) as started_at, job.completed_at,
       scheduled.scheduled_at as next_run_at, job.run_at, job.expires_at,
       coalesce(job.worker, (select lease.worker from pgqueue.lease where lease.id = running.lease_id)) as worker,
       job.result, job.reason, job.error, last.reason as last_reason, last.error as last_error,
       job.options, job.headers, job.tags, job.key,
       (select progress.value from pgqueue.progress where progress.job_id = job.id) as progress,
       -- Of the latest attempt. One that succeeded has no row of its own.
       case when running.started_at is not null then running.started_at
            when job.status = 'succeeded' then coalesce(
                job.last_started_at,
                -- An attempt before the first start is of the time before a redrive.
                case when last.started_at is null or last.started_at < job.started_at then job.started_at end)
            else last.started_at end as attempt_started_at,
       case when running.started_at is not null then null
            when job.status = 'succeeded' then job.completed_at
            else last.ended_at end as attempt_ended_at
from pgqueue.job
left join pgqueue.ready on ready.job_id = job.id
left join pgqueue.running on running.job_id = job.id
left join pgqueue.scheduled on scheduled.job_id = job.id
left join pgqueue.blocked on blocked.job_id = job.id
left join lateral (
    select attempt.reason, attempt.error, attempt.started_at, attempt.ended_at
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
