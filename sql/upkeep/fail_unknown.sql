-- fail_unknown: fail up to $3 jobs, but for $4, that were put aside more than $1 ago for tasks that neither a live worker nor this
-- process, which declares tasks $2, declares.
--
-- A live worker that does not say which tasks it declares may declare any. One whose lease has expired may have been
-- cut off, until its rescue begins. Returns the jobs and their tasks.

with silent as materialized (
    select from pgqueue.lease where beside is null and tasks is null limit 1
),
aside as materialized (
    select lane.id, lane.task
    from pgqueue.lane
    where lane.task <> ''
      and not lane.paused                -- it waits because of the pause, not for a worker
      and lane.task <> all($2::text[])
      and not exists (select from silent)
      and not exists (select from pgqueue.lease where beside is null and lane.task = any(lease.tasks))
),
chosen as materialized (
    select candidate.job_id
    from aside
    cross join lateral (
        select ready.job_id, ready.ready_at from pgqueue.ready
        where ready.lane = aside.id and ready.job_id <> all($4::uuid[])
        order by ready.position
        limit $3
    ) as candidate
    where candidate.ready_at <= now() - $1::interval
    limit $3
),
held as materialized (
    -- The record is locked first, as in a cancel.
    select id from pgqueue.job where id = any(array(select job_id from chosen)) for update skip locked
),
taken as (
    delete from pgqueue.ready
    where job_id = any(array(select id from held))
    returning job_id, lane, attempt
),
judged as materialized (
    select taken.job_id, taken.attempt, aside.task,
           json_build_object('type', 'UnknownTask', 'message', format(
               'no worker that knows task %s came within %s', aside.task, $1::interval)) as error
    from taken
    join aside on aside.id = taken.lane
),
over as (
    update pgqueue.job
    set status       = 'failed',
        completed_at = now(),
        attempt      = nullif(judged.attempt, 0),
        reason       = 'unknown_task',
        error        = judged.error
    from judged
    where job.id = judged.job_id
      and job.id = any(array(select job_id from chosen))
    returning job.id, judged.task, job.hooks
),
history as (
    -- Behind the record: see fail.
    insert into pgqueue.attempt (job_id, attempt, reason, error)
    select job_id, attempt, 'unknown_task', error from judged where job_id = any(array(select id from over))
),
settled as materialized (
    select case when count(hooks) > 0
                then pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks)) end::text as settled
    from over
)
select over.id, over.task, settled.settled from over cross join settled
