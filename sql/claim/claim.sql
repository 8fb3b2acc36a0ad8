-- claim: claim up to $2 pending jobs for lease $1, walking lanes $3 in their order, each from position $4.
--
-- Rows come back in no particular order. An expired lease claims nothing. The share lock on the lease keeps a
-- rescue from missing this claim before it is committed. Paused lanes are skipped; they are read once the lock
-- is held, so that a pause that has waited for the lock takes effect.
--
-- No plan of this statement can touch more rows than the batch, whatever the statistics say: tables are reached
-- by `= any(batch)` and joined among batch-sized sets. Joining a table to the batch by equality alone once read
-- the whole table, dead rows included.

with holder as materialized (
    select id from pgqueue.lease where id = $1 and expires_at > now() for key share
),
paused as materialized (
    select pgqueue.paused_lanes() as lanes from holder
),
chosen as materialized (
    -- Not a subquery: inlined, the limit may apply once per outer row, and lock more rows than were asked
    -- for. The nested loop walks the lanes in the given order and stops at the limit, before it looks at
    -- the remaining lanes.
    select candidate.job_id
    from paused,
         unnest($3::integer[], $4::bigint[]) as walk (lane, position)
         cross join lateral (
             select ready.job_id
             from pgqueue.ready
             where ready.lane = walk.lane and ready.position >= walk.position
             order by ready.position
             limit $2
             for update skip locked
         ) as candidate
    where walk.lane <> all(paused.lanes)
    limit $2
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
where job.id = any(array(select job_id from chosen))
