-- sweep: of lanes $1, those that have ready jobs, and the first position of each.
--
-- Finds what positions remembered from earlier claims have passed by: jobs of transactions that
-- committed late, and jobs that were given back.

select walk.lane, first.position
from unnest($1::integer[]) as walk (lane)
cross join lateral (
    select ready.position
    from pgqueue.ready
    where ready.lane = walk.lane
    order by ready.position
    limit 1
) as first
