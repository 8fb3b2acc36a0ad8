-- find_lanes: the first $4 lanes with ids above $3 of queues $1 for a worker that declares tasks $2.
--
-- The lanes of the queues are found by name first: walked in the order of ids, those of all other queues would be
-- read. A lane that was removed is walked for another hour: a transaction that was open may have enqueued to it.

with served as materialized (
    select id, queue, priority, task
    from pgqueue.lane
    where queue = any($1::text[])
      and (task = '' or task = any($2::text[]))
      and (removed_at is null or removed_at > now() - interval '1 hour')
)
select id, queue, priority, task
from served
where id > $3
order by id
limit $4
