-- count_members: how many of the first $2 jobs of each of the workflows $1 have each status.

with member as materialized (
    select listed.id as workflow_id, first.id, first.status
    from unnest($1::uuid[]) as listed (id)
    cross join lateral (
        select job.id, job.status from pgqueue.job where job.workflow_id = listed.id order by job.id limit $2
    ) as first
)
select stands.workflow_id, stands.status, count(*) as jobs
from (
    select workflow_id, status::text from member where status is not null
    union all
    select member.workflow_id, place.status
    from member
    cross join lateral (
        select case when started_at is null then 'pending' else 'running' end as status
        from pgqueue.running where job_id = member.id
        union all
        select 'pending' from pgqueue.ready where job_id = member.id
        union all
        select 'scheduled' from pgqueue.scheduled where job_id = member.id
        union all
        select 'blocked' from pgqueue.blocked where job_id = member.id
        offset 0
    ) as place
    where member.status is null
) as stands
group by stands.workflow_id, stands.status
