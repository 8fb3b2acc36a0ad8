-- measure_workflows: how many workflows of the newest $1 have which status, and what is live among $2 jobs of each place.
--
-- Bounded, whatever there is. Without workflows it looks at nothing else. Returns statuses and their counts, how many are
-- live and how many of these are paused, the age of the oldest live one that is not, and how many jobs wait at a barrier.

with recent as materialized (
    select stands.status::text as status, count(*) as workflows
    from (
        select workflow.root, workflow.created_at from pgqueue.workflow order by workflow.id desc limit $1
    ) as newest
    cross join lateral (
        select coalesce(
            (select case barrier.state when 'fired' then 'succeeded' when 'failed' then 'failed' else 'blocked' end
             from pgqueue.barrier where barrier.id = newest.root and barrier.is_join),
            pgqueue.status_of(newest.root)::text) as status offset 0
    ) as stands
    where newest.created_at > now() - interval '1 hour' and stands.status is not null
    group by stands.status
),
held as materialized (
    select job_id from pgqueue.blocked where waits_for is null and exists (select from pgqueue.workflow)
    order by job_id limit $2
),
place as materialized (
    select job_id from held
    union all
    (select job_id from pgqueue.running where exists (select from pgqueue.workflow) order by job_id limit $2)
    union all
    (select job_id from pgqueue.ready where exists (select from pgqueue.workflow) order by job_id limit $2)
    union all
    (select job_id from pgqueue.scheduled where exists (select from pgqueue.workflow) order by job_id limit $2)
),
live as materialized (
    select distinct member.workflow_id
    from place
    cross join lateral (
        select job.workflow_id from pgqueue.job where job.id = place.job_id and job.workflow_id is not null offset 0
    ) as member
)
select array(select status from recent order by status) as statuses,
       array(select workflows from recent order by status) as workflows,
       count(*) as live, count(workflow.paused_at) as paused,
       extract(epoch from now() - min(workflow.created_at) filter (where workflow.paused_at is null))::float8 as oldest_age,
       (select count(*) from held
        cross join lateral (
            select id from pgqueue.barrier where barrier.id = held.job_id and barrier.state is null offset 0
        ) as waiting) as barriers
from live
cross join lateral (
    select paused_at, created_at from pgqueue.workflow where workflow.id = live.workflow_id offset 0
) as workflow
