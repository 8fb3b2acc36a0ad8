-- rescue: rescue up to $2 jobs, except $4, of the expired lease $1, each at its old position; a job that was lost
-- more often than its task allows (default $3), while it ran alone, has failed; a job with a cancel request is
-- cancelled.
--
-- A loss beside others counts for nobody, because nobody knows whose fault it was; a job that allows no loss fails all
-- the same, because it must not run again. note_loss has noted who was alone.
-- The caller holds the lock on the lease. A loss is counted separately, and the attempt does not count. A prefetched
-- job that was not started has lost nothing. Returns the jobs with their new statuses and lanes.

with held as materialized (
    select job_id from pgqueue.running
    where lease_id = $1 and job_id <> all($4::uuid[])
    order by job_id limit $2 for update
),
taken as (
    delete from pgqueue.running
    where job_id = any(array(select job_id from held))
    returning job_id, lane, ready_at, position, attempt, losses, started_at
),
judged as materialized (
    select taken.*, lease.worker, lease.version, lease.beside, job.task,
           least(taken.losses, 2147483646) + (taken.started_at is not null)::integer as losses_now,
           taken.started_at is not null and (
               select allowed = 0 or coalesce(lease.beside, 0) = 0 and allowed <= (
                   -- The losses that it had alone; of those that nobody noted it may have been the cause.
                   select count(*)
                   from (select attempt.beside from pgqueue.attempt
                         where attempt.job_id = taken.job_id and attempt.reason = 'lost'
                         order by attempt.id desc limit greatest(taken.losses, 0)) as lost
                   where coalesce(lost.beside, 0) = 0)
               from (select coalesce(
                   -- What is no number was not written by pgqueue, and counts as not given.
                   case when (job.options ->> 'max_losses') ~ '^[0-9]{1,20}$'
                        then (job.options ->> 'max_losses')::numeric end,
                   (select case when (setting.options ->> 'max_losses') ~ '^[0-9]{1,20}$'
                                then (setting.options ->> 'max_losses')::numeric end
                    from pgqueue.setting
                    where setting.kind = 'task' and setting.name = job.task),
                   case when (lease.max_losses ->> job.task) ~ '^[0-9]{1,20}$'
                        then (lease.max_losses ->> job.task)::numeric end,
                   $3::integer) as allowed) as given
           ) as is_lost,
           taken.started_at is not null and taken.job_id = any(array(
               select job_id from pgqueue.cancel_request where job_id = any(array(select job_id from held))
           )) as is_doomed
    from taken
    join pgqueue.job on job.id = taken.job_id
    join pgqueue.lease on lease.id = $1
    where job.id = any(array(select job_id from held))
),
requeued as (
    insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
    select job_id, ready_at, position, lane, case when started_at is null then attempt else greatest(attempt, 1) - 1 end, losses_now
    from judged where not is_lost and not is_doomed
    -- One that stands there already is pending already.
    on conflict do nothing
),
ended as (
    update pgqueue.job
    set status       = case when judged.is_doomed then 'cancelled'::pgqueue.job_status
                        when judged.is_lost then 'failed' end,
        started_at   = coalesce(job.started_at, judged.started_at),
        completed_at = case when judged.is_lost or judged.is_doomed then greatest(now(), judged.started_at) end,
        attempt      = case when judged.is_lost or judged.is_doomed then judged.attempt end,
        worker       = case when judged.is_lost or judged.is_doomed then judged.worker end,
        reason       = case when judged.is_doomed then coalesce((
            select cancel_request.reason from pgqueue.cancel_request where cancel_request.job_id = job.id), 'cancelled')
                        when judged.is_lost then 'worker_lost' end,
        error        = case when judged.is_lost and not judged.is_doomed then json_build_object(
            'type', 'WorkerLost',
            'message', format('the worker was lost while it ran this job, %s times', judged.losses_now)) end
    from judged
    where job.id = judged.job_id
      and job.id = any(array(select job_id from held))
      and judged.started_at is not null
    returning job.id, case when judged.is_lost or judged.is_doomed then job.hooks end as hooks
),
history as (
    -- Behind the record: see fail.
    insert into pgqueue.attempt (job_id, attempt, started_at, worker, version, reason, beside)
    select job_id, attempt, started_at, worker, version, 'lost', beside
    from judged where job_id = any(array(select id from ended))
),
settled as materialized (
    select case when count(hooks) > 0
                then pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks)) end::text as settled
    from ended
)
select job_id as id, task, lane, case when is_doomed then 'cancelled' when is_lost then 'failed' else 'pending' end as status, attempt,
       started_at is not null as was_running,
       (select lane.queue from pgqueue.lane where lane.id = judged.lane) as queue,
       settled.settled
from judged cross join settled
