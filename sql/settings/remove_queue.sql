-- remove_queue: remove the lanes and the pause of queue $1, unless jobs that have not ended are there; returns how many
-- such jobs there are, counted to $2, and whether there was anything to remove.

with lanes as materialized (
    select array(select id from pgqueue.lane where queue = $1) as ids
),
counted as materialized (
    select (select count(*) from (
               select from pgqueue.running where lane = any((select ids from lanes)::integer[])
               union all
               select from pgqueue.ready where lane = any((select ids from lanes)::integer[])
               union all
               select from pgqueue.scheduled where lane = any((select ids from lanes)::integer[])
               union all
               select from pgqueue.blocked where lane = any((select ids from lanes)::integer[])
               limit $2
           ) as live) as jobs
),
resumed as (
    delete from pgqueue.setting
    where kind = 'queue' and name = $1 and options is null and (select jobs from counted) = 0
    returning paused_at
),
removed as (
    update pgqueue.lane
    set removed_at = now(), idle_since = null, paused = exists (
        select from pgqueue.setting
        where setting.kind = 'task' and setting.name = lane.task and setting.paused_at is not null)
    where queue = $1 and removed_at is null and (select jobs from counted) = 0
    returning id
)
select jobs, exists (select from removed) or exists (select from resumed where paused_at is not null) as is_removed
from counted
