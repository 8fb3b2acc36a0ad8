-- list_limits: the limits that there are, and how many jobs hold and wait for each, counting to $1.

select rule.name, rule.slots, coalesce(rule.when_full, 'wait') as when_full, rule.edited_at, rule.actor, rule.changed_at,
       (select count(*) from (
            select from pgqueue.gate join pgqueue.gate_pass on gate_pass.gate = gate.id
            where gate.rule = rule.name limit $1) as held) as in_use,
       (select count(*) from (
            select from pgqueue.gate join pgqueue.blocked on blocked.gate = gate.id
            where gate.rule = rule.name limit $1) as waits) as waiting
from pgqueue.limit_rule as rule
order by rule.name
