-- find_work: what is left that a worker of queues $1 that declares tasks $2 would do now, in words; none: nothing.
--
-- Paused lanes, and lanes for tasks that it does not declare, are left alone by it. A job that waits for a time that
-- has not come, for a limit or for another job is not to be done now.

with served as materialized (
    select id, paused, task from pgqueue.lane where queue = any($1::text[])
)
select array_remove(array[
    case when exists (select from pgqueue.running where lane = any(array(select id from served)))
         then 'running jobs' end,
    case when exists (
             select from pgqueue.ready
             where lane = any(array(
                 select id from served where not paused and (task = '' or task = any($2::text[]))
             ))
         ) then 'pending jobs' end,
    case when exists (
             select from pgqueue.scheduled
             where scheduled_at <= now() and lane = any(array(select id from served))
         ) then 'scheduled jobs that are due' end,
    case when exists (select from pgqueue.blocked where wake_at <= now() and not is_due)
         then 'waits that are over' end,
    case when exists (select from pgqueue.note where due_at is null or due_at <= now())
         then 'ends that others wait for' end,
    case when exists (select from pgqueue.schedule where paused_at is null and due_at <= now())
         then 'schedules that are due' end,
    case when exists (select from pgqueue.mass_redrive where state = 'running')
         then 'mass redrives' end
], null) as kinds
