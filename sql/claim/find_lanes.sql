-- find_lanes: the lanes of queues $1 for a worker that declares tasks $2.

select id, queue, priority, task
from pgqueue.lane
where queue = any($1::text[])
  and (task = '' or task = any($2::text[]))
