-- read_stats: what was done in each period of $2 within the last $1, in queue $3 (null: in all queues), for each
-- queue separately if $4.
--
-- Returns only periods with statistics, each with its place; the latest period is 0.

select case when $4 then stat.queue end as queue,
       greatest(0, floor(extract(epoch from now() - least(stat.at, now())) / extract(epoch from $2::interval)))::integer as place,
       sum(enqueued)::bigint as enqueued,
       sum(claimed)::bigint as claimed,
       sum(succeeded)::bigint as succeeded,
       sum(failed)::bigint as failed,
       sum(cancelled)::bigint as cancelled,
       sum(expired)::bigint as expired,
       sum(retried)::bigint as retried,
       sum(lost)::bigint as lost,
       array[
           sum(waits[1]), sum(waits[2]), sum(waits[3]), sum(waits[4]), sum(waits[5]), sum(waits[6]),
           sum(waits[7]), sum(waits[8]), sum(waits[9]), sum(waits[10]), sum(waits[11]), sum(waits[12]),
           sum(waits[13]), sum(waits[14]), sum(waits[15]), sum(waits[16]), sum(waits[17]), sum(waits[18]),
           sum(waits[19]), sum(waits[20]), sum(waits[21]), sum(waits[22]), sum(waits[23]), sum(waits[24])
       ]::bigint[] as waits,
       array[
           sum(runs[1]), sum(runs[2]), sum(runs[3]), sum(runs[4]), sum(runs[5]), sum(runs[6]),
           sum(runs[7]), sum(runs[8]), sum(runs[9]), sum(runs[10]), sum(runs[11]), sum(runs[12]),
           sum(runs[13]), sum(runs[14]), sum(runs[15]), sum(runs[16]), sum(runs[17]), sum(runs[18]),
           sum(runs[19]), sum(runs[20]), sum(runs[21]), sum(runs[22]), sum(runs[23]), sum(runs[24])
       ]::bigint[] as runs,
       min(case when first_wait between 0 and 1e12 then first_wait end) as first_wait,
       min(case when first_run between 0 and 1e12 then first_run end) as first_run
from pgqueue.stat
where stat.at > now() - $1::interval
  and ($3::text is null or stat.queue = $3)
group by 1, 2
order by 2 desc, 1
