-- prefetch: claim as claim does ($1 to $4), without starting the jobs.
--
-- They stay pending, reserved for this lease; an idle worker may take them over.

with holder as materialized (
    select id from pgqueue.lease where id = $1 and expires_at > now() for key share
),
paused as materialized (
    select pgqueue.paused_lanes() as lanes from holder
),
chosen as materialized (
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
)
insert into pgqueue.running (job_id, lease_id, ready_at, position, lane, attempt, losses)
select job_id, $1, ready_at, position, lane, attempt, losses from taken
returning job_id, lane, position, losses
