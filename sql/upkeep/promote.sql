-- promote: make up to $1 due scheduled jobs except $3 pending, in the order of their times; lists them if $2.
--
-- Returns how many, their lanes, the seconds until the next one is due (null: none is scheduled), and the id, task,
-- queue and attempt of each as JSON (null: not requested).

with due as materialized (
    select job_id
    from pgqueue.scheduled
    where scheduled_at <= now() and job_id <> all($3::uuid[])
    order by scheduled_at
    limit $1
    for update skip locked
),
moved as (
    delete from pgqueue.scheduled
    where job_id = any(array(select job_id from due))
    returning job_id, scheduled_at, lane, attempt, losses, gated
),
queued as (
    insert into pgqueue.ready (job_id, lane, attempt, losses)
    select job_id, lane, attempt, losses from moved order by scheduled_at, job_id
    -- One that stands there already is pending already.
    on conflict do nothing
    returning job_id
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
       -- Extracted separately: before PostgreSQL 17, an infinite time cannot be subtracted.
       extract(epoch from (
           select scheduled_at from pgqueue.scheduled
           where scheduled_at > now() order by scheduled_at limit 1
       ))::float8 - extract(epoch from now())::float8 as next_in,
       -- Those with gates go to them.
       case when exists (select from moved where gated)
            then pgqueue.gate_in(array(select job_id from moved where gated), (select count(*) from queued)) end as notes
