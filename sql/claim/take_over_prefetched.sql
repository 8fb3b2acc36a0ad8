-- take_over_prefetched: take over, for lease $1, up to $2 jobs in lanes $3 that other workers prefetched and have
-- not started.
--
-- Rows come back as from prefetch. The index holds prefetched jobs only, so a fleet that does not prefetch pays
-- for an empty one.

with holder as materialized (
    select id from pgqueue.lease where id = $1 and expires_at > now() for key share
),
chosen as materialized (
    select candidate.job_id
    from holder,
         unnest($3::integer[]) as walk (lane)
         cross join lateral (
             select running.job_id
             from pgqueue.running
             where running.lane = walk.lane and running.started_at is null and running.lease_id <> $1
             order by running.position
             limit $2
             for update skip locked
         ) as candidate
    limit $2
)
update pgqueue.running
set lease_id = $1
where job_id = any(array(select job_id from chosen))
returning job_id, lane, position, losses
