-- find_notes: $1 of the first 20,000 notes except $2 that are due within $3 seconds, those of the nodes from $4 on
-- first, and in how many seconds each is.
--
-- Those of one node together, and then from the first node on: a gate to which two batches of jobs have come
-- is attended to once, and workers that look at the same time begin in different places.
-- A time that is too far away is that of a clock that was set back.

with first as materialized (
    select id, node_id, due_at
    from pgqueue.note
    where id <> all($2::bigint[])
      and (due_at is null or due_at not between now() + make_interval(secs => $3) and now() + interval '61 seconds')
    order by id
    limit 20000
)
select id,
       case when due_at between now() and now() + interval '61 seconds'
            then extract(epoch from due_at)::float8 - extract(epoch from now())::float8 else 0 end as due
from first
order by node_id < $4, node_id, id
limit $1
