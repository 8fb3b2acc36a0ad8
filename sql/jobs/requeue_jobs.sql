-- requeue_jobs: make those of the jobs $1 pending again that have one of the terminal statuses $2, for reason $3, as
-- actor $4; name them if $5.
--
-- Locked here first, so that those named are those requeued. Returns how many, their lanes, and each one's id, task
-- and queue, as JSON (null: not asked for, or none).

with locked as materialized (
    select job.id, job.task, job.lane
    from pgqueue.job
    where job.id = any($1::uuid[]) and job.status::text = any($2::text[])
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
