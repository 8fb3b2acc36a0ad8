-- put_schedule: make the schedule of the JSON document $1, or change it if $2 is true, by an operator if $3 is true.
--
-- Returns whether it was made; null: it exists, and may not be changed.

insert into pgqueue.schedule as stored (
    name, task, arguments, template, cron, every, at, timezone, starts_at, ends_at, misfire, overlap, catch_up, jitter,
    tick_argument, next_at, due_at, declared, declared_at, actor, reason
)
select given.name, given.task, given.arguments::json, given.template::json, given.cron, given.every, given.at,
       given.timezone, given.starts_at, given.ends_at, given.misfire, given.overlap, given.catch_up, given.jitter,
       given.tick_argument, given.next_at, given.next_at, given.declared::json,
       case when given.declared is not null then now() end, given.actor, given.reason
from json_to_record($1::json) as given (
    name text, task text, arguments text, template text, cron text, every double precision, at timestamptz,
    timezone text, starts_at timestamptz, ends_at timestamptz, misfire text, overlap text, catch_up double precision,
    jitter double precision, tick_argument text, next_at timestamptz, declared text, actor text, reason text)
on conflict (name) do update
set task = excluded.task, arguments = excluded.arguments, template = excluded.template, cron = excluded.cron,
    every = excluded.every, at = excluded.at, timezone = excluded.timezone, starts_at = excluded.starts_at,
    ends_at = excluded.ends_at, misfire = excluded.misfire, overlap = excluded.overlap, catch_up = excluded.catch_up,
    jitter = excluded.jitter, tick_argument = excluded.tick_argument, next_at = excluded.next_at,
    due_at = excluded.due_at, error = null, failures = 0,
    declared = coalesce(excluded.declared, stored.declared),
    declared_at = coalesce(excluded.declared_at, stored.declared_at),
    edited_at = case when $3 then now() else stored.edited_at end,
    actor = excluded.actor, reason = excluded.reason
where $2
returning xmax = 0 as is_new
