-- find_waiting_aside: the tasks whose jobs were put aside more than $1 ago.

select distinct lane.task
from pgqueue.lane
cross join lateral (
    select ready.ready_at from pgqueue.ready where ready.lane = lane.id order by ready.position limit 1
) as first
where lane.task <> ''
  and not lane.paused
  and first.ready_at <= now() - $1::interval
