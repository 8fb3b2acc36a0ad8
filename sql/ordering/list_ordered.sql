-- list_ordered: the ordered groups, how many of their jobs wait, and how many of their keys stand still, looking at no
-- more than $1 keys and counting no more than $2 jobs of each kind.
--
-- Over all groups together, but some of each: what is left out is said (`is_exact`). By keys alone, so that jobs behind
-- other limits are not read.

with shown as materialized (
    select rule.name, coalesce(rule.on_dead, 'block') as on_dead, rule.edited_at, rule.actor, rule.changed_at
    from pgqueue.limit_rule as rule
    where pg_catalog.starts_with(rule.name, 'order/')
),
bound as materialized (
    select greatest($1 / greatest(1, count(*)), 20) as keys, greatest($2 / greatest(1, count(*)), 100) as jobs from shown
)
select pg_catalog.substr(shown.name, 7) as name, shown.on_dead, shown.edited_at, shown.actor, shown.changed_at,
       waits.jobs as waiting, still.keys as stopped, still.halted,
       looked.keys <= bound.keys and waits.jobs < bound.jobs and still.jobs < bound.jobs as is_exact
from shown
cross join bound
cross join lateral (
    select array_agg(first.id) as ids, count(*) as keys
    from (select gate.id from pgqueue.gate where gate.rule = shown.name order by gate.id limit bound.keys + 1) as first
) as looked
cross join lateral (
    select count(*) as jobs
    from (
        select from unnest(looked.ids) as key (id)
        cross join lateral (
            select from pgqueue.blocked where blocked.gate = key.id
            order by blocked.lane, blocked.turn limit bound.jobs
        ) as of_key
        limit bound.jobs
    ) as counted
) as waits
cross join lateral (
    select count(*) as jobs, count(distinct first.key) as keys,
           count(distinct first.key) filter (where first.halts) as halted
    from (
        select stopped.key, stopped.halts from pgqueue.stopped where stopped.rule = shown.name
        order by stopped.key, stopped.turn limit bound.jobs
    ) as first
) as still
order by shown.name
