-- find_claimable: up to $1 pending jobs that a claim would take of lanes $2 from positions $3, but for jobs $4, with
-- their lanes and positions.

select candidate.job_id, candidate.lane, candidate.position
from unnest($2::integer[], $3::bigint[]) as walk (lane, position)
cross join lateral (
    select ready.job_id, ready.lane, ready.position
    from pgqueue.ready
    where ready.lane = walk.lane and ready.position >= walk.position and ready.job_id <> all($4::uuid[])
    order by ready.position
    limit $1
) as candidate
limit $1
