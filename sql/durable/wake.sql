-- wake: make up to $1 waiting jobs except $3 pending whose time or event has come; lists them if $2.
--
-- Returns how many, their lanes, the seconds until the next one's time (null: none waits for one), and the id, task,
-- queue and attempt of each as JSON (null: not requested).

with woken as materialized (
    select id, lane, attempt from pgqueue.wake($1, $3::uuid[])
)
select (select count(*) from woken) as woken,
       array(select distinct lane from woken) as lanes,
       case when $2::boolean then (
           select json_agg(json_build_array(job.id, job.task, lane.queue, woken.attempt))
           from woken
           join pgqueue.job on job.id = woken.id
           join pgqueue.lane on lane.id = woken.lane
           where job.id = any(array(select id from woken))
       ) end as jobs,
       -- Extracted separately: before PostgreSQL 17, an infinite time cannot be subtracted.
       extract(epoch from (
           select wake_at from pgqueue.blocked where wake_at > now() order by wake_at limit 1
       ))::float8 - extract(epoch from now())::float8 as next_in
