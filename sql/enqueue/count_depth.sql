-- count_depth: how many jobs in queue $1 are pending and unclaimed, counting to $2.

select count(*)
from (
    select from pgqueue.ready
    where ready.lane = any(array(select lane.id from pgqueue.lane where lane.queue = $1))
    limit $2
) as waiting
