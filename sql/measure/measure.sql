-- measure: for each of at most $3 lanes, how many jobs are pending, scheduled, retrying and blocked, each counted to
-- $1, how many of the first $2 running ones it has, started or prefetched, and for how many seconds its first job has
-- waited.
--
-- With many lanes the cap of each is lower, so that the total is never higher than for ten lanes. Those that workers
-- serve or that are paused come first, then the others by name: whoever makes names up makes nothing slow.

with served as materialized (
    select array(
        select distinct unnest(each.queues) from (select lease.queues from pgqueue.lease order by lease.id) as each
    ) as queues
),
shown as materialized (
    select lane.id, lane.queue
    from pgqueue.lane, served
    where lane.removed_at is null
    order by lane.queue = any(served.queues) or lane.paused desc, lane.queue, lane.id
    limit $3
),
counted as materialized (
    select greatest($1 / greatest(1, count(*) / 10), 100) as cap from shown
),
held as materialized (
    select lane, sum(running) as running, sum(claimed) as claimed, sum(held) as held
    from (
        select each.lane, each.held - each.started as claimed, each.held,
               -- More have started than run: some have ended, and their outcomes are about to be written.
               -- In which lanes, nobody can tell.
               least(each.started, case when lease.slots > 0 then greatest(0, lease.slots - coalesce(sum(each.started)
                   over (partition by each.lease_id order by each.lane rows between unbounded preceding and 1 preceding),
                   0)) end) as running
        from (
            select first.lane, first.lease_id, count(first.started_at) as started, count(*) as held
            from (select lane, lease_id, started_at from pgqueue.running order by job_id limit $2) as first
            group by first.lane, first.lease_id
        ) as each
        left join pgqueue.lease on lease.id = each.lease_id
    ) as each
    group by lane
)
select lane.id as lane,
       lane.queue,
       (select cap from counted) as cap,
       pgqueue.is_paused(lane.queue, '') as is_paused,
       (select count(*) from (
           select from pgqueue.ready where ready.lane = lane.id
           order by ready.position limit (select cap from counted)
       ) as ready) as ready,
       (select count(*) from (
           select from pgqueue.scheduled where scheduled.lane = lane.id and scheduled.attempt = 0
           limit (select cap from counted)
       ) as scheduled) as scheduled,
       (select count(*) from (
           select from pgqueue.scheduled where scheduled.lane = lane.id and scheduled.attempt > 0
           limit (select cap from counted)
       ) as retrying) as retrying,
       (select count(*) from (
           select from pgqueue.blocked where blocked.lane = lane.id limit (select cap from counted)
       ) as blocked) as blocked,
       coalesce(held.running, 0)::bigint as running,
       coalesce(held.claimed, 0)::bigint as prefetched,
       coalesce(held.held, 0)::bigint as held,
       -- The first by position: a job that was returned to the queue keeps its position, but not its time.
       (select extract(epoch from clock_timestamp() - min(head.ready_at))::float8 from (
           select ready.ready_at from pgqueue.ready where ready.lane = lane.id
           order by ready.position limit 100
       ) as head where isfinite(head.ready_at)) as oldest_age
from shown as lane
left join held on held.lane = lane.id
order by lane.id
