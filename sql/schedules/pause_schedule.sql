-- pause_schedule: pause (if $2 is true) or resume the schedule named $1, for actor $4 and reason $5; next tick at $3.
--
-- Null: there is none; false: it is so already.

with known as materialized (
    select name, paused_at from pgqueue.schedule where name = $1 for update
),
changed as (
    update pgqueue.schedule
    set paused_at = case when $2 then now() end, next_at = $3, due_at = $3, error = null, failures = 0,
        actor = $4, reason = $5
    from known
    where schedule.name = known.name and (known.paused_at is not null) is distinct from $2
    returning schedule.name
)
select exists (select from changed) from known
