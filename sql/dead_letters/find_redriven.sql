-- find_redriven: the jobs that this transaction has redriven into lanes $1, after position $2.
--
-- Jobs that others enqueue there meanwhile are read and left out, because their time or their latest action
-- differs.

select fresh.job_id as id, (select job.task from pgqueue.job where job.id = fresh.job_id) as task,
       (select lane.queue from pgqueue.lane where lane.id = fresh.lane) as queue, fresh.attempt, latest.reason
from unnest($1::integer[]) as walk (lane)
cross join lateral (
    select ready.job_id, ready.lane, ready.attempt
    from pgqueue.ready
    where ready.lane = walk.lane and ready.position > $2 and ready.ready_at = now()
    offset 0
) as fresh
cross join lateral (
    select action.action, action.at, action.reason
    from pgqueue.action
    where action.job_id = fresh.job_id
    order by action.id desc
    limit 1
) as latest
where latest.action = 'redriven' and latest.at = now()
