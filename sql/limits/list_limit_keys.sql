-- list_limit_keys: of limit $1, $3 keys from $2 on, downwards by their digests, or null: key $4; each with how many jobs
-- it has let through and how many wait for it, counting to $5, and since when the first has waited.
--
-- In one lane, the first of a key is exact; of several lanes, those that are counted.

select gate.id, gate.key, held.jobs as in_use, waits.jobs as waiting, waits.since as waits_since
from (
    (select gate.id, gate.key from pgqueue.gate
     where gate.rule = $1 and gate.id <= $2::uuid and $4::text is null
     order by gate.id desc limit $3)
    union all
    select gate.id, gate.key from pgqueue.gate where gate.id = pgqueue.key_id($1, $4) and gate.rule = $1
) as gate
cross join lateral (
    select count(*) as jobs
    from (select from pgqueue.gate_pass where gate_pass.gate = gate.id order by gate_pass.job_id limit $5) as counted
) as held
cross join lateral (
    select count(*) as jobs, min(counted.blocked_at) as since
    from (
        select blocked.blocked_at from pgqueue.blocked where blocked.gate = gate.id
        order by blocked.lane, blocked.turn limit $5
    ) as counted
) as waits
order by gate.id desc
