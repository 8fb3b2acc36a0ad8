-- merge_stats: merge up to $1 rows, but for $3, that were written more than $2 ago into one per queue and minute.
--
-- So the table grows with the number of queues, and not of processes. Returns how many rows were merged.

with chosen as materialized (
    select id from pgqueue.stat
    where not merged and at < date_trunc('minute', now() - $2::interval) and id <> all($3::uuid[])
    order by at limit $1
    for update skip locked
),
taken as (
    delete from pgqueue.stat where id = any(array(select id from chosen))
    returning at, seconds, queue, enqueued, claimed, succeeded, failed, cancelled, expired, retried, lost, waits, runs,
              first_wait, first_run
),
merged as (
    insert into pgqueue.stat (
        id, merged, at, seconds, queue, enqueued, claimed, succeeded, failed, cancelled,
        expired, retried, lost, waits, runs, first_wait, first_run
    )
    select gen_random_uuid(), true, max(at),
           extract(epoch from max(at) - min(at - make_interval(secs => seconds)))::float8,
           queue,
           least(sum(enqueued), 2147483647)::integer,
           least(sum(claimed), 2147483647)::integer,
           least(sum(succeeded), 2147483647)::integer,
           least(sum(failed), 2147483647)::integer,
           least(sum(cancelled), 2147483647)::integer,
           least(sum(expired), 2147483647)::integer,
           least(sum(retried), 2147483647)::integer,
           least(sum(lost), 2147483647)::integer,
           array[
               sum(waits[1]), sum(waits[2]), sum(waits[3]), sum(waits[4]), sum(waits[5]), sum(waits[6]),
               sum(waits[7]), sum(waits[8]), sum(waits[9]), sum(waits[10]), sum(waits[11]), sum(waits[12]),
               sum(waits[13]), sum(waits[14]), sum(waits[15]), sum(waits[16]), sum(waits[17]), sum(waits[18]),
               sum(waits[19]), sum(waits[20]), sum(waits[21]), sum(waits[22]), sum(waits[23]), sum(waits[24])
           ]::integer[],
           array[
               sum(runs[1]), sum(runs[2]), sum(runs[3]), sum(runs[4]), sum(runs[5]), sum(runs[6]),
               sum(runs[7]), sum(runs[8]), sum(runs[9]), sum(runs[10]), sum(runs[11]), sum(runs[12]),
               sum(runs[13]), sum(runs[14]), sum(runs[15]), sum(runs[16]), sum(runs[17]), sum(runs[18]),
               sum(runs[19]), sum(runs[20]), sum(runs[21]), sum(runs[22]), sum(runs[23]), sum(runs[24])
           ]::integer[],
           min(first_wait), min(first_run)
    from taken
    group by queue, date_trunc('minute', at)
)
select count(*) as count from taken
