-- count_dead_letters: how many dead letters each queue has, counting to $1.
--
-- With many queues the cap of each is lower, so that the total is never higher than for ten queues.

with queues as materialized (
    select distinct queue from pgqueue.lane
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
