-- learn_lanes: the lanes of queues $1 at priorities $2; those that are missing are made.

select given.queue, given.priority, pgqueue.lane_of(given.queue, given.priority) as id
from unnest($1::text[], $2::smallint[]) as given (queue, priority)
