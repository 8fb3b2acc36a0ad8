-- claim_one: claim the pending job $2 for lease $1, as claim does.

with holder as materialized (
    select id from pgqueue.lease where id = $1 and expires_at > now() for key share
),
paused as materialized (
    select pgqueue.paused_lanes() as lanes from holder
),
chosen as materialized (
    select ready.job_id
    from pgqueue.ready, paused
    where ready.job_id = $2 and ready.lane <> all(paused.lanes)
    for update of ready skip locked
),
taken as (
    delete from pgqueue.ready
    where job_id = any(array(select job_id from chosen))
    returning job_id, ready_at, position, lane, attempt, losses
),
claimed as (
    insert into pgqueue.running (job_id, lease_id, ready_at, started_at, position, lane, attempt, losses)
    select job_id, $1, ready_at, now(), position, lane, attempt + 1, losses from taken
)
select job.id, taken.lane, taken.position, taken.attempt + 1 as attempt, taken.losses,
       job.task, job.arguments::text, job.options::text, job.headers::text, job.key,
       job.expires_at <= now() as expired,
       date_part('epoch', now() - taken.ready_at) as waited,
       date_part('epoch', now() - job.started_at) as age,
       to_json(job.tags)::text as tags,
       date_part('epoch', job.created_at) as created
from pgqueue.job
join taken on taken.job_id = job.id
where job.id = $2
