-- estimate_limits: estimated numbers of jobs that limits $2 have let through and that wait for them, and since when one
-- of those has, from a sample of $1 blocks of each table.
--
-- For numbers too large to count. The planner's statistics are not used, because they may be hours old.

with share as materialized (
    select least(100, 100.0 * $1 * current_setting('block_size')::bigint
               / greatest(1, pg_relation_size('pgqueue.gate_pass'::regclass))) as held,
           least(100, 100.0 * $1 * current_setting('block_size')::bigint
               / greatest(1, pg_relation_size('pgqueue.blocked'::regclass))) as waits
),
found as materialized (
    select gate, count(*) * 100 / (select held from share) as held, 0.0 as waits, null::timestamptz as since
    from pgqueue.gate_pass tablesample system ((select held from share))
    group by gate
    union all
    select gate, 0, count(*) * 100 / (select waits from share),
           min(blocked_at) filter (where lane not in (select lane.id from pgqueue.lane where lane.paused))
    from pgqueue.blocked tablesample system ((select waits from share))
    where gate is not null
    group by gate
)
select gate.rule as name, sum(found.held)::bigint as in_use, sum(found.waits)::bigint as waiting, min(found.since) as waits_since
from found
cross join lateral (select gate.rule from pgqueue.gate where gate.id = found.gate limit 1) as gate
where gate.rule = any($2::text[])
group by gate.rule
