-- read_inputs: the next $3 inputs of node $1 behind position $2, in order.
--
-- An input that is a join has inputs of its own. A result that was not stored, or not kept, is null.

select edge.upstream, edge.position,
       coalesce(joined.is_join, false) as is_join,
       case when joined.is_join then case joined.state when 'fired' then 'succeeded' when 'failed' then 'failed' end
            else stands.status end as status,
       stands.result, stands.reason, stands.error
from (
    select upstream, position from pgqueue.edge
    where downstream = $1 and position > $2
    order by position
    limit $3
) as edge
left join lateral (
    select barrier.is_join, barrier.state from pgqueue.barrier where barrier.id = edge.upstream and barrier.is_join offset 0
) as joined on true
left join lateral (
    select job.status::text as status, job.result::text as result, job.reason, job.error::text as error
    from pgqueue.job where job.id = edge.upstream offset 0
) as stands on true
order by edge.position
