-- delete_schedule: remove the schedule named $1, and its history but for who asked: $2, for reason $3; returns whether
-- there was one.
--
-- What is left of those that were deleted more than a month ago goes too.

with gone as (
    delete from pgqueue.schedule where name = $1 returning name
),
forgotten as (
    delete from pgqueue.tick using gone where tick.schedule = gone.name
),
told as (
    insert into pgqueue.tick (schedule, at, outcome, actor, reason)
    select gone.name, clock_timestamp(), 'deleted', $2, $3 from gone
),
outdated as (
    delete from pgqueue.tick
    where tick.outcome = 'deleted' and tick.recorded_at < now() - interval '1 month'
)
select exists (select from gone)
