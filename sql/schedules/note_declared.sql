-- note_declared: note that a worker declares the schedules named $1, as the JSON documents $2 (null: as before).
--
-- Not again within half a minute, and none that another transaction has locked: every worker does this.

with stale as (
    select schedule.name, given.declared
    from unnest($1::text[], $2::text[]) as given (name, declared)
    join pgqueue.schedule on schedule.name = given.name
    where schedule.declared_at is null or schedule.declared_at < now() - interval '30 seconds' or given.declared is not null
    for update of schedule skip locked
)
update pgqueue.schedule
set declared_at = now(), declared = coalesce(stale.declared::json, schedule.declared)
from stale
where schedule.name = stale.name
