-- promote: move up to $1 scheduled jobs whose time has come to ready, in the order of their times; name them if $2.
--
-- Returns how many, their lanes, the seconds until the next is due (null: none is waiting), and each one's id,
-- task, queue and attempt, as JSON (null: not asked for).

with due as materialized (
    select job_id
    from pgqueue.scheduled
    where scheduled_at <= now()
    order by scheduled_at
    limit $1
    for update skip locked
),
moved as (
    delete from pgqueue.scheduled
    where job_id = any(array(select job_id from due))
    returning job_id, scheduled_at, lane, attempt, losses
),
queued as (
    insert into pgqueue.ready (job_id, lane, attempt, losses)
    select job_id, lane, attempt, losses from moved order by scheduled_at, job_id
)
select (select count(*) from moved) as promoted,
       array(select distinct lane from moved) as lanes,
       case when $2::boolean then (
           select json_agg(json_build_array(job.id, job.task, lane.queue, moved.attempt))
           from moved
           join pgqueue.job on job.id = moved.job_id
           join pgqueue.lane on lane.id = moved.lane
           where job.id = any(array(select job_id from moved))
       ) end as jobs,
       -- Each by itself: before PostgreSQL 17, a time of infinity has no distance.
       extract(epoch from (
           select scheduled_at from pgqueue.scheduled
           where scheduled_at > now() order by scheduled_at limit 1
       ))::float8 - extract(epoch from now())::float8 as next_in
