-- read_results: the results of the next $3 inputs of node $1 behind position $2, in order; those of inputs that have
-- succeeded alone if $4.
--
-- One array: rows of their own cost the body of a large chord as long again. Returns the last position, whether there is
-- more behind it, and whether an input is a join, which has inputs of its own: then read_inputs tells. A result that was
-- not stored, or not kept, is null. The bounds let the server skip the partitions of other days.

with given as materialized (
    select upstream, position from pgqueue.edge
    where downstream = $1 and position > $2
    order by position
    limit $3
),
listed as materialized (
    select ids, ids[1] as low, ids[cardinality(ids)] as high,
           coalesce((select position from given order by position desc limit 1), $2) as reached
    from (select array(select upstream from given order by upstream) as ids) as sorted
),
nested as materialized (
    select exists (
        select from pgqueue.barrier where id = any((select ids from listed)::uuid[]) and is_join
    ) as has_joins
),
stands as materialized (
    select job.id, job.status, job.result::text as result
    from pgqueue.job
    where job.id = any((select ids from listed)::uuid[])
      and job.id between (select low from listed) and (select high from listed)
)
select listed.reached,
       exists (select from pgqueue.edge where downstream = $1 and position > listed.reached) as is_more,
       nested.has_joins,
       case when nested.has_joins then '{}' else array(
           select stands.result
           from given left join stands on stands.id = given.upstream
           where stands.status = 'succeeded' or not $4
           order by given.position
       ) end as results
from listed, nested
