-- list_workers: up to $2 workers that hold a lease, with the numbers of their started and prefetched jobs among the
-- first $1 running jobs.

with held as materialized (
    select first.lease_id, count(first.started_at) as running, count(*) as claimed
    from (select lease_id, started_at from pgqueue.running order by job_id limit $1) as first
    group by first.lease_id
)
select lease.id as lease_id, lease.worker as name, lease.version,
       -- Written by hand, an array can hold nulls, and arrays.
       array(select queue from unnest(lease.queues) as queue where queue is not null) as queues,
       lease.started_at,
       -- Extracted separately, and bounded: a time written by hand can be infinite, which JSON has no number for.
       least(1e12, greatest(-1e12,
           extract(epoch from now())::float8 - extract(epoch from lease.renewed_at)::float8)) as lease_age,
       least(1e12, greatest(-1e12,
           extract(epoch from lease.expires_at)::float8 - extract(epoch from now())::float8)) as lease_left,
       -- Null stays null, which greatest() would pass over.
       case when lease.loop_lag <> 'NaN' then least(1e12, greatest(0, lease.loop_lag)) end as loop_lag,
       case when lease.tasks is not null
            then array(select task from unnest(lease.tasks) as task where task is not null) end as tasks,
       case when lease.abandoned_threads is not null then greatest(0, lease.abandoned_threads) end as abandoned_threads,
       case when lease.slots > 0 then lease.slots end as slots,
       lease.host,
       case when lease.process_id > 0 then lease.process_id end as pid,
       case when lease.memory > 0 then lease.memory end as memory,
       -- More have started than run: some have ended, and their outcomes are about to be written.
       least(coalesce(held.running, 0), case when lease.slots > 0 then lease.slots end)::integer as running,
       coalesce(held.claimed - held.running, 0)::integer as prefetched
from pgqueue.lease
left join held on held.lease_id = lease.id
where lease.receipt_of is null
order by lease.worker, lease.id
limit $2
