-- list_limiters: up to $1 limiters that attempts hold or wait for, those that most wait for first, with up to 25 jobs of
-- each kind; looking at no more than $2 holds and turns.
--
-- What attempts that are over have left there is not theirs any more.

with seen as materialized (
    select hold.limiter, hold.turn, hold.job_id, hold.since is not null as is_held
    from (select * from pgqueue.limiter_hold order by limiter_hold.limiter, limiter_hold.turn limit $2) as hold
    where pgqueue.is_running(hold.job_id, hold.lease_id, hold.claimed_at)
),
used as materialized (
    select seen.limiter, count(*) filter (where seen.is_held) as held, count(*) filter (where not seen.is_held) as waiting,
           (array_agg(seen.job_id order by seen.turn) filter (where seen.is_held))[:25] as holders,
           (array_agg(seen.job_id order by seen.turn) filter (where not seen.is_held))[:25] as waiters
    from seen
    group by seen.limiter
    order by waiting desc, held desc, seen.limiter
    limit $1
)
select limiter.kind, limiter.name, used.held, used.waiting, coalesce(used.holders, '{}') as holders,
       coalesce(used.waiters, '{}') as waiters,
       (select count(*) from (select from pgqueue.limiter_hold limit $2) as counted) < $2 as is_exact
from used
cross join lateral (select one.kind, one.name from pgqueue.limiter as one where one.id = used.limiter limit 1) as limiter
order by used.waiting desc, used.held desc, limiter.name, limiter.kind
