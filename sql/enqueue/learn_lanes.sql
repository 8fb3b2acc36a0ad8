-- learn_lanes: the ids of the lanes of queues $1 at priorities $2, in this order; those that are missing are made.
--
-- Strings and full names: see enqueue.

select pgqueue.lane_of(given.queue, given.priority)::text as id
from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]::smallint[]))
    with ordinality as given (queue, priority, number)
order by given.number
