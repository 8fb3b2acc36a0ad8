-- find_busy_keys: of limit $1, up to $2 keys that most jobs wait for, most first, counting to $3 each, of the first $4
-- keys by their digests and of those that a sample of $5 blocks of what is blocked meets most.
--
-- By digests is as by chance. A key that thousands wait for is met.

with seen as materialized (
    select key.id
    from (
        (select gate.id from pgqueue.gate where gate.rule = $1 order by gate.id limit $4)
        union
        (select sampled.gate
         from (
             select blocked.gate, count(*) as jobs
             from pgqueue.blocked tablesample system (
                 (select least(100, 100.0 * $5 * current_setting('block_size')::bigint
                      / greatest(1, pg_relation_size('pgqueue.blocked'::regclass)))))
             where blocked.gate is not null
             group by blocked.gate
             order by jobs desc limit 1000
         ) as sampled
         where (select gate.rule from pgqueue.gate where gate.id = sampled.gate) = $1)
    ) as key (id)
),
waits as materialized (
    select seen.id, counted.jobs, counted.since
    from seen
    cross join lateral (
        select count(*) as jobs, min(first.blocked_at) as since
        from (
            select blocked.blocked_at from pgqueue.blocked where blocked.gate = seen.id
            order by blocked.lane, blocked.turn limit $3
        ) as first
    ) as counted
    where counted.jobs > 0
    order by counted.jobs desc, counted.since, seen.id
    limit $2
)
select waits.id, named.key, waits.jobs as waiting, waits.since as waits_since,
       (select count(*) from (
           select from pgqueue.gate_pass where gate_pass.gate = waits.id order by gate_pass.job_id limit $3) as held) as in_use
from waits
-- Limited, or it would be a join that reads all gates.
cross join lateral (select gate.key from pgqueue.gate where gate.id = waits.id limit 1) as named
order by waits.jobs desc, waits.since, waits.id
