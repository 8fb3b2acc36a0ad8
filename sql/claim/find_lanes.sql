-- find_lanes: the lanes of queues $1 that a worker walks that knows tasks $2.

select id, queue, priority, task
from pgqueue.lane
where queue = any($1::text[])
  and (task = '' or task = any($2::text[]))
