-- read_settings: the pauses and run-time options that operators have set, and with $1 which queues are fair.

select kind, name, paused_at, options::text, actor, reason, changed_at
from pgqueue.setting
where paused_at is not null or options is not null
union all
select 'fair', substr(name, 6), null, null, null, null, null
from pgqueue.limit_rule
where $1 and kind = 'window'
order by kind, name
