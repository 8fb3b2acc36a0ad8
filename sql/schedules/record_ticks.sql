-- record_ticks: note how the schedules in the JSON array $1 have ticked, and when they do next.

with given as materialized (
    select * from json_to_recordset($1::json) as each (
        name text, next_at timestamptz, last_at timestamptz, last_job uuid, missed bigint, ticks json)
),
moved as (
    update pgqueue.schedule
    set next_at = given.next_at, due_at = given.next_at, last_at = coalesce(given.last_at, schedule.last_at),
        last_job = coalesce(given.last_job, schedule.last_job), missed = schedule.missed + given.missed,
        error = null, failures = 0
    from given
    where schedule.name = given.name
),
told as (
    insert into pgqueue.tick (schedule, at, job_id, outcome, actor, reason)
    select given.name, told.at, told.job_id, told.outcome, told.actor, told.reason
    from given
    cross join lateral json_to_recordset(given.ticks) as told (
        at timestamptz, job_id uuid, outcome text, actor text, reason text)
    on conflict do nothing
)
delete from pgqueue.tick
using given
where tick.schedule = given.name
  and tick.at < (
      select old.at from pgqueue.tick as old where old.schedule = given.name order by old.at desc offset 99 limit 1)
