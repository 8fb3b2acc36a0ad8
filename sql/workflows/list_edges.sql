-- list_edges: the edges that lead from nodes $1, and whether each leads to a join.

select edge.upstream, edge.downstream, edge.position, edge.outcome::text as outcome,
       coalesce((select barrier.is_join from pgqueue.barrier where barrier.id = edge.downstream), false) as to_join
from pgqueue.edge
where edge.upstream = any($1::uuid[])
order by edge.downstream, edge.position
