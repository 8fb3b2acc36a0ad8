-- list_limits: limits $1, or null: $3 of them behind name $2; each with how many jobs it has let through and how many
-- wait, and since when the first of these has, looking at no more than $4 keys and counting no more than $5 jobs of each
-- kind.
--
-- Over all limits together, but some of each: what is left out is said (`is_exact`). By keys alone, so that jobs behind other limits are not read. Those whose queue is
-- paused are counted, but no limit holds them back.

with shown as materialized (
    select rule.name, rule.kind, rule.slots, rule.rate, rule.burst, rule.when_full, rule.declared, rule.declared_rate,
           rule.declared_burst, rule.edited_at, rule.actor, rule.reason, rule.changed_at
    from pgqueue.limit_rule as rule
    where case when $1::text[] is null then rule.name > $2 and rule.on_dead is null else rule.name = any($1) end
    order by rule.name
    limit $3
),
bound as materialized (
    select greatest($4 / greatest(1, count(*)), 20) as keys, greatest($5 / greatest(1, count(*)), 100) as jobs from shown
),
paused as materialized (select array(select lane.id from pgqueue.lane where lane.paused) as lanes)
select shown.name, shown.kind, shown.slots, shown.rate, shown.burst, coalesce(shown.when_full, 'wait') as when_full,
       shown.declared, shown.declared_rate, shown.declared_burst, shown.edited_at, shown.actor, shown.reason, shown.changed_at, held.jobs as in_use, waits.jobs as waiting, waits.since as waits_since,
       looked.keys <= bound.keys and held.jobs < bound.jobs and waits.jobs < bound.jobs as is_exact
from shown
cross join bound
cross join paused
cross join lateral (
    select array_agg(first.id) as ids, count(*) as keys
    from (select gate.id from pgqueue.gate where gate.rule = shown.name order by gate.id limit bound.keys + 1) as first
) as looked
cross join lateral (
    select count(*) as jobs
    from (
        select from unnest(looked.ids) as key (id)
        cross join lateral (
            select from pgqueue.gate_pass where gate_pass.gate = key.id order by gate_pass.job_id limit bound.jobs
        ) as of_key
        limit bound.jobs
    ) as counted
) as held
cross join lateral (
    select count(*) as jobs, min(counted.blocked_at) filter (where counted.lane <> all(paused.lanes)) as since
    from (
        select of_key.blocked_at, of_key.lane from unnest(looked.ids) as key (id)
        cross join lateral (
            select blocked.blocked_at, blocked.lane from pgqueue.blocked where blocked.gate = key.id
            order by blocked.lane, blocked.turn limit bound.jobs
        ) as of_key
        limit bound.jobs
    ) as counted
) as waits
order by shown.name
