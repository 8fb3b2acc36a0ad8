-- count_dead_letters: per queue, how many dead letters it has, counted to $1 at most.
--
-- With many queues each is counted to less, so that all of them are not counted further than ten would be.

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
