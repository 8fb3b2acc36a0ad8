-- delete_lanes: delete up to $2 lanes that were removed more than $1 ago and whose jobs have all been removed, too;
-- returns how many.
--
-- All jobs of such a lane were made before it was removed, or by a transaction that was open then. So it goes when no
-- job is left from before that. Jobs whose ids have no time in them say nothing of when they were made: while there
-- are any, none goes.

with kept as materialized (
    select (select id from pgqueue.job order by id limit 1) as first,
           exists (select from pgqueue.job where id > pgqueue.id_at(now() + interval '1 day')) as are_others
),
chosen as materialized (
    select lane.id
    from pgqueue.lane, kept
    where lane.removed_at < now() - $1::interval
      and not kept.are_others
      and (kept.first is null or kept.first >= pgqueue.id_at(lane.removed_at + $1::interval))
    limit $2
    for update of lane skip locked
),
deleted as (
    delete from pgqueue.lane where id = any(array(select id from chosen)) returning id
)
select count(*) from deleted
