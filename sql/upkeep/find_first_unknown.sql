-- find_first_unknown: the job with which a batch of fail_unknown begins, for grace $1 and the tasks $2 that this process
-- declares, that skips jobs $3.

select candidate.job_id
from pgqueue.lane
cross join lateral (
    select ready.job_id, ready.ready_at from pgqueue.ready
    where ready.lane = lane.id and ready.job_id <> all($3::uuid[])
    order by ready.position
    limit 1
) as candidate
where lane.task <> ''
  and not lane.paused
  and lane.task <> all($2::text[])
  and not exists (select from pgqueue.lease where beside is null and (tasks is null or lane.task = any(tasks)))
  and candidate.ready_at <= now() - $1::interval
limit 1
