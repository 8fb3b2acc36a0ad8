-- requeue_jobs: make those of the jobs $1 that ended with one of the statuses $2 pending again, for reason $3, as
-- actor $4; lists them if $5.
--
-- They are locked here first, so that exactly the listed jobs are requeued. Returns how many, their lanes, and the
-- id, task and queue of each as JSON (null: not requested, or none).

with held as materialized (
    -- Workflows are locked before records.
    select pgqueue.hold_workflows($1::uuid[])
),
locked as materialized (
    select job.id, job.task, job.lane
    from pgqueue.job
    where job.id = any($1::uuid[]) and (select count(*) from held) = 1 and job.status::text = any($2::text[])
    order by job.id
    for update
)
select requeued, lanes,
       case when $5::boolean then (
           select json_agg(json_build_array(
               id, task, (select lane.queue from pgqueue.lane where lane.id = locked.lane)))
           from locked
       ) end as jobs
from pgqueue.requeue(array(select id from locked), $2, $3, $4)
