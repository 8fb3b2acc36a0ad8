-- list_ordered: the ordered groups, how many of their jobs wait, and how many of their keys stand still, counting to $1.

select pg_catalog.substr(rule.name, 7) as name, coalesce(rule.on_dead, 'block') as on_dead, rule.edited_at, rule.actor,
       rule.changed_at,
       (select count(*) from (
            select from pgqueue.gate join pgqueue.blocked on blocked.gate = gate.id
            where gate.rule = rule.name limit $1) as waits) as waiting,
       (select count(*) from (
            select distinct stopped.key from pgqueue.stopped where stopped.rule = rule.name limit $1) as still) as stopped,
       (select count(*) from (
            select distinct stopped.key from pgqueue.stopped
            where stopped.rule = rule.name and stopped.halts limit $1) as still) as halted
from pgqueue.limit_rule as rule
where pg_catalog.starts_with(rule.name, 'order/')
order by rule.name
