-- delete_schedule: remove the schedule named $1, and its history; returns whether there was one.

with gone as (
    delete from pgqueue.schedule where name = $1 returning name
),
forgotten as (
    delete from pgqueue.tick using gone where tick.schedule = gone.name
)
select exists (select from gone)
