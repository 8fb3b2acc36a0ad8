-- start: start the prefetched jobs $2 of lease $1.
--
-- Rows come back in no particular order, for the jobs that no other worker has taken over. Jobs in paused lanes
-- return to their positions: see claim.

with holder as materialized (
    select id from pgqueue.lease where id = $1 for key share
),
paused as materialized (
    select pgqueue.paused_lanes() as lanes from holder
),
refused as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
      and started_at is null
      and lane = any((select lanes from paused)::integer[])
    returning job_id, ready_at, position, lane, attempt, losses
),
given_back as (
    insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
    select job_id, ready_at, position, lane, attempt, losses from refused
),
started as (
    update pgqueue.running
    set started_at = now(), attempt = attempt + 1
    where job_id = any($2::uuid[])
      and lease_id = $1
      and started_at is null
      and lane <> all((select lanes from paused)::integer[])
    returning job_id, ready_at, position, lane, attempt, losses
)
select job.id, started.lane, started.position, started.attempt, started.losses,
       job.task, job.arguments::text, job.options::text, job.headers::text, job.key,
       job.expires_at <= now() as expired,
       extract(epoch from now() - started.ready_at)::float8 as waited,
       extract(epoch from now() - job.started_at)::float8 as age,
       to_json(job.tags)::text as tags,
       date_part('epoch', job.created_at) as created
from pgqueue.job
join started on started.job_id = job.id
where job.id = any($2::uuid[])
