-- promote: move up to $1 scheduled jobs whose time has come to ready, in the order of their times.
--
-- Returns how many, their lanes, and the seconds until the next is due (null: none is waiting).

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
       -- Each by itself: before PostgreSQL 17, a time of infinity has no distance.
       extract(epoch from (
           select scheduled_at from pgqueue.scheduled
           where scheduled_at > now() order by scheduled_at limit 1
       ))::float8 - extract(epoch from now())::float8 as next_in
