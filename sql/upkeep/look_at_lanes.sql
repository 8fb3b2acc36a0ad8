-- look_at_lanes: note since when each of the next $2 lanes behind lane $1 has no job, and bring back those that were
-- removed and have one.
--
-- A transaction that was open when its lane was removed can have enqueued to it. Returns the last lane, how many
-- there were, and those that were brought back. A lane that a transaction has locked is looked at the next time.

with looked as materialized (
    select id, removed_at, idle_since from pgqueue.lane where id > $1 order by id limit $2
),
running as materialized (
    select array(select distinct lane from pgqueue.running) as lanes
),
judged as materialized (
    -- With a limit each: without, a whole table may be read at once.
    select looked.id, looked.removed_at is not null as is_removed, looked.idle_since is not null as is_idle,
           looked.id = any(running.lanes)
           or (select true from pgqueue.ready where ready.lane = looked.id limit 1) is not null
           or (select true from pgqueue.scheduled where scheduled.lane = looked.id limit 1) is not null
           or (select true from pgqueue.blocked where blocked.lane = looked.id limit 1) is not null as has_jobs
    from looked, running
),
held as materialized (
    select id from pgqueue.lane
    where id = any(array(
        select id from judged where case when has_jobs then is_removed or is_idle else not is_removed and not is_idle end
    ))
    for update skip locked
),
noted as (
    update pgqueue.lane
    set removed_at = null, idle_since = case when judged.has_jobs then null else now() end
    from judged
    where lane.id = judged.id
      and lane.id = any(array(select id from held))
    returning lane.id, judged.is_removed
)
select (select max(id) from looked) as reached, (select count(*) from looked) as looked,
       array(select id from noted where is_removed) as brought_back
