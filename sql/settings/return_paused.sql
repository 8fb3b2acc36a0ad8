-- return_paused: return the jobs that workers prefetched from paused lanes to the queue, at their old positions; and
-- have those that limits have let through wait for these again.
--
-- To their workers it looks as if others had taken them over.

with held as materialized (
    select job_id
    from pgqueue.running
    where lane = any(array(select lane.id from pgqueue.lane where lane.paused))
      and started_at is null
    for update skip locked
),
taken as (
    delete from pgqueue.running
    where job_id = any(array(select job_id from held))
    returning job_id, ready_at, position, lane, attempt, losses
),
returned as (
    insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
    select job_id, ready_at, position, lane, attempt, losses from taken
    returning job_id
)
select pgqueue.return_to_gates(null, (select count(*) from returned))
