-- measure: per queue, how many jobs are pending, scheduled, retrying and running, and the age in seconds of
-- the oldest pending one; each count stops at $1, so that the cost does not grow with the queue.

select lane.queue,
       sum(pending.count)::bigint as pending,
       max(pending.oldest_age) as oldest_age
from pgqueue.lane
cross join lateral (
    select count(*) as count, extract(epoch from now() - min(head.ready_at))::float8 as oldest_age
    from (
        select ready.ready_at from pgqueue.ready
        where ready.lane = lane.id order by ready.position limit $1
    ) as head
) as pending
group by lane.queue
