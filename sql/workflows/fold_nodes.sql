-- fold_nodes: the jobs of workflow $1, more than $2 that are alike as one node, by node and status; and who waits for whom.
--
-- Alike are jobs of one task that wait for the same nodes, and are waited for by the same. A node is called by its first
-- job. A row with a task says how many jobs of node `id` have that status; one without, that `leads_to` waits for `id`.

with recursive member as materialized (
    select job.id, job.task, job.status::text as ended from pgqueue.job where job.workflow_id = $1
),
every as materialized (
    select array(select id from member) as ids, array(select id from member where ended is null) as live
),
place as materialized (
    select job_id, case when started_at is null then 'pending' else 'running' end as status
    from pgqueue.running where job_id = any((select live from every)::uuid[])
    union all
    select job_id, 'pending' from pgqueue.ready where job_id = any((select live from every)::uuid[])
    union all
    select job_id, 'scheduled' from pgqueue.scheduled where job_id = any((select live from every)::uuid[])
    union all
    select job_id, 'blocked' from pgqueue.blocked where job_id = any((select live from every)::uuid[])
),
below as materialized (
    select upstream, downstream from pgqueue.edge where upstream = any((select ids from every)::uuid[])
),
above as materialized (
    select downstream as id, string_agg(upstream::text, ' ' order by upstream) as nodes
    from pgqueue.edge where downstream = any((select ids from every)::uuid[]) group by downstream
),
alike as materialized (
    select member.id, member.task, coalesce(member.ended, place.status, 'pending') as status,
           first_value(member.id) over those as first,
           count(*) over (partition by member.task, above.nodes, heads.nodes) as jobs
    from member
    left join place on place.job_id = member.id
    left join above on above.id = member.id
    left join (
        select upstream as id, string_agg(downstream::text, ' ' order by downstream) as nodes from below group by upstream
    ) as heads on heads.id = member.id
    window those as (partition by member.task, above.nodes, heads.nodes order by member.id)
),
-- From the ends of groups, which are no jobs.
beyond as (
    select edge.upstream, edge.downstream
    from (select distinct downstream as id from below) as end_of
    cross join lateral (
        select edge.upstream, edge.downstream from pgqueue.edge
        where edge.upstream = end_of.id
          and exists (
              select from pgqueue.barrier
              where barrier.id = end_of.id and barrier.is_join and barrier.workflow_id = $1 offset 0)
        offset 0
    ) as edge
    union
    select edge.upstream, edge.downstream
    from beyond
    cross join lateral (
        select edge.upstream, edge.downstream from pgqueue.edge
        where edge.upstream = beyond.downstream
          and exists (
              select from pgqueue.barrier
              where barrier.id = beyond.downstream and barrier.is_join and barrier.workflow_id = $1 offset 0)
        offset 0
    ) as edge
),
node as materialized (
    select id, task, status, case when jobs > $2 then first else id end as node from alike
)
select node.node as id, node.task, node.status, count(*) as jobs, null::uuid as leads_to
from node
group by node.node, node.task, node.status
union all
select distinct coalesce(up.node, link.upstream), null, null, null::bigint, coalesce(down.node, link.downstream)
from (select upstream, downstream from below union all select upstream, downstream from beyond) as link
left join node as up on up.id = link.upstream
left join node as down on down.id = link.downstream
