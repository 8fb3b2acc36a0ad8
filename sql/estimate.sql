-- estimate: how many jobs about each lane has in each of the tables of waiting jobs, and how many dead letters each
-- queue has, by a sample of some $1 blocks of each table.
--
-- For what is too much to be counted. What the planner knows is not asked: its statistics are of another hour.

with share as materialized (
    select name, least(100, 100.0 * $1 * current_setting('block_size')::bigint
                            / greatest(1, pg_relation_size(name::regclass))) as percent
    from unnest(array['pgqueue.ready', 'pgqueue.scheduled', 'pgqueue.blocked', 'pgqueue.dead_letter']) as known (name)
)
select 'ready' as what, lane, null as queue,
       (count(*) * 100 / (select percent from share where name = 'pgqueue.ready'))::bigint as count
from pgqueue.ready tablesample system ((select percent from share where name = 'pgqueue.ready'))
group by lane
union all
select case when attempt = 0 then 'scheduled' else 'retrying' end, lane, null,
       (count(*) * 100 / (select percent from share where name = 'pgqueue.scheduled'))::bigint
from pgqueue.scheduled tablesample system ((select percent from share where name = 'pgqueue.scheduled'))
group by lane, attempt = 0
union all
select 'blocked', lane, null,
       (count(*) * 100 / (select percent from share where name = 'pgqueue.blocked'))::bigint
from pgqueue.blocked tablesample system ((select percent from share where name = 'pgqueue.blocked'))
group by lane
union all
select 'failed', null, queue,
       (count(*) * 100 / (select percent from share where name = 'pgqueue.dead_letter'))::bigint
from pgqueue.dead_letter tablesample system ((select percent from share where name = 'pgqueue.dead_letter'))
group by queue
