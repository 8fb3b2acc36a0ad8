-- make_lanes: make the missing lanes of queues $1 at priorities $2 for tasks $3 ('' for any task), and bring back
-- those that were removed.

insert into pgqueue.lane (queue, priority, task)
select distinct given.queue, given.priority, given.task
from unnest($1::text[], $2::smallint[], $3::text[]) as given (queue, priority, task)
where not exists (
    -- Looked up first, because a conflict would use up a number of the lane sequence.
    select from pgqueue.lane
    where lane.queue = given.queue and lane.priority = given.priority and lane.task = given.task
      and lane.removed_at is null
)
on conflict (queue, priority, task) do update set removed_at = null, idle_since = null
where lane.removed_at is not null
