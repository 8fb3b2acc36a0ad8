-- sweep: those of lanes $1 that have pending jobs, with the first position of each.
--
-- Finds jobs before the positions remembered from earlier claims: jobs of transactions that committed late, and
-- jobs that were returned to the queue.

select walk.lane, first.position
from unnest($1::integer[]) as walk (lane)
cross join lateral (
    select ready.position
    from pgqueue.ready
    where ready.lane = walk.lane
    order by ready.position
    limit 1
) as first
