-- sweep_edges: note nodes that ended more than $3 ago, or are gone, and were not counted, among those before the next $2
-- waiting nodes behind id $1.
--
-- Finds what workers of earlier versions end, and what was deleted by hand. Returns how many nodes were looked at, the
-- last of them, and how many notes were written.

with looked as materialized (
    select id
    from (
        (select job_id as id from pgqueue.blocked where job_id > $1 and waits_for is null order by job_id limit $2)
        union
        (select id from pgqueue.barrier where id > $1 and state is null order by id limit $2)
    ) as waiting
    order by id
    limit $2
),
missed as materialized (
    select distinct edge.upstream
    from looked
    cross join lateral (
        select upstream from pgqueue.edge where edge.downstream = looked.id and edge.outcome is null offset 0
    ) as edge
    where coalesce(
        (select barrier.ended_at < now() - $3::interval from pgqueue.barrier
         where barrier.id = edge.upstream and barrier.is_join),
        (select job.completed_at < now() - $3::interval from pgqueue.job where job.id = edge.upstream),
        (select true from pgqueue.job where job.id = edge.upstream) is null
        and (select true from pgqueue.barrier where barrier.id = edge.upstream and barrier.is_join) is null)
    limit 1000
),
noted as (
    insert into pgqueue.note (node_id) select upstream from missed returning id
)
select (select count(*) from looked) as looked, (select id from looked order by id desc limit 1) as reached,
       (select count(*) from noted) as noted
