-- count_dead_letters: how many dead letters each of at most $2 queues has, counting to $1.
--
-- With many queues the cap of each is lower, so that the total is never higher than for ten queues. Those that workers
-- serve or that are paused come first, as in measure, and those that were removed last.

with served as materialized (
    select array(
        select distinct unnest(each.queues) from (select lease.queues from pgqueue.lease order by lease.id) as each
    ) as queues
),
queues as materialized (
    select lane.queue
    from pgqueue.lane, served
    group by lane.queue, served.queues
    order by lane.queue = any(served.queues) or bool_or(lane.paused) desc,
             bool_and(lane.removed_at is not null), lane.queue
    limit $2
),
counted as materialized (
    select greatest($1 / greatest(1, count(*) / 10), 100) as cap from queues
)
select queues.queue,
       (select cap from counted) as cap,
       (select count(*) from (
           select from pgqueue.dead_letter where dead_letter.queue = queues.queue
           limit (select cap from counted)
       ) as capped) as count
from queues
