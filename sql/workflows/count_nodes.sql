-- count_nodes: how many jobs of workflow $1 have each status.

with member as materialized (
    select job.id, job.status from pgqueue.job where job.workflow_id = $1
),
live as materialized (
    select array(select id from member where status is null) as ids
)
select status, count(*) as jobs
from (
    select status::text from member where status is not null
    union all
    select case when started_at is null then 'pending' else 'running' end
    from pgqueue.running where job_id = any((select ids from live)::uuid[])
    union all
    select 'pending' from pgqueue.ready where job_id = any((select ids from live)::uuid[])
    union all
    select 'scheduled' from pgqueue.scheduled where job_id = any((select ids from live)::uuid[])
    union all
    select 'blocked' from pgqueue.blocked where job_id = any((select ids from live)::uuid[])
) as stands
group by status
