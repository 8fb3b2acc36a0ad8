-- remove_lanes: remove up to $2 lanes that have had no job for $1 and that nobody needs; returns how many.
--
-- Needed are those of queues and tasks that are paused or configured, and of each queue that a live worker serves the
-- lane of priority 0. The jobs of other queues may have been too short to be seen, so statistics count, too.

with needed as materialized (
    select array(select distinct unnest(queues) from pgqueue.lease where expires_at > now()) as served,
           array(select distinct queue from pgqueue.stat where at > now() - $1::interval) as used,
           array(select name from pgqueue.setting
                 where kind = 'queue' and (paused_at is not null or options is not null)) as queues,
           array(select name from pgqueue.setting
                 where kind = 'task' and (paused_at is not null or options is not null)) as tasks
),
chosen as materialized (
    select lane.id
    from pgqueue.lane, needed
    where lane.removed_at is null
      and lane.idle_since <= now() - $1::interval
      and not lane.paused
      and case when lane.queue = any(needed.served) then lane.priority <> 0 or lane.task <> ''
               else lane.queue <> all(needed.used) end
      and lane.queue <> all(needed.queues)
      and lane.task <> all(needed.tasks)
    limit $2
    for update of lane skip locked
),
removed as (
    update pgqueue.lane set removed_at = now() where id = any(array(select id from chosen)) returning id
)
select count(*) from removed
