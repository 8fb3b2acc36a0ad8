-- estimate: estimated numbers of pending, scheduled, retrying and blocked jobs per lane, and of dead letters per
-- queue, from a sample of $1 blocks of each of the tables $2 (ready, scheduled, blocked, dead_letter).
--
-- For numbers too large to count. The planner's statistics are not used, because they may be hours old.

with share as materialized (
    select name,
           case when name = any($2::text[]) then least(100, 100.0 * $1 * current_setting('block_size')::bigint
                / greatest(1, pg_relation_size(relation)))
           else 0 end as percent
    from (values ('ready', 'pgqueue.ready'::regclass), ('scheduled', 'pgqueue.scheduled'),
                 ('blocked', 'pgqueue.blocked'), ('dead_letter', 'pgqueue.dead_letter')) as known (name, relation)
)
select 'ready' as what, lane, null as queue,
       (count(*) * 100 / (select percent from share where name = 'ready'))::bigint as count
from pgqueue.ready tablesample system ((select percent from share where name = 'ready'))
group by lane
union all
select case when attempt = 0 then 'scheduled' else 'retrying' end, lane, null,
       (count(*) * 100 / (select percent from share where name = 'scheduled'))::bigint
from pgqueue.scheduled tablesample system ((select percent from share where name = 'scheduled'))
group by lane, attempt = 0
union all
select 'blocked', lane, null,
       (count(*) * 100 / (select percent from share where name = 'blocked'))::bigint
from pgqueue.blocked tablesample system ((select percent from share where name = 'blocked'))
group by lane
union all
select 'failed', null, queue,
       (count(*) * 100 / (select percent from share where name = 'dead_letter'))::bigint
from pgqueue.dead_letter tablesample system ((select percent from share where name = 'dead_letter'))
group by queue
