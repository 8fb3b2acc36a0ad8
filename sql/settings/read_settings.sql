-- read_settings: the pauses and run-time options that operators have set.

select kind, name, paused_at, options::text, actor, reason, changed_at
from pgqueue.setting
where paused_at is not null or options is not null
order by kind, name
