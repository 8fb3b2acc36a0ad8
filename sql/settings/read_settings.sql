-- read_settings: what operators have paused or configured.

select kind, name, paused_at, options::text, actor, reason, changed_at
from pgqueue.setting
where paused_at is not null or options is not null
order by kind, name
