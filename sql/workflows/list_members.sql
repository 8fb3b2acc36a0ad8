-- list_members: the next $4 jobs of workflow $1 behind place ($2, $3), with status $5 alone unless that is null.
--
-- A place is whether a job is none of those that failed, and its id: those that failed come first.

select listed.id, listed.task, coalesce(listed.stands, pgqueue.status_of(listed.id))::text as status, listed.reason,
       listed.created_at, listed.completed_at,
       coalesce(listed.started_at, (select running.started_at from pgqueue.running where running.job_id = listed.id)) as started_at,
       listed.attempt, listed.result is not null as has_result, listed.error::text as error
from (
    select member.*, stands.status as stands, member.status is distinct from 'failed' as is_other
    from pgqueue.job as member
    cross join lateral (
        select case when member.status is not null then member.status
                    when $5::text is not null then pgqueue.status_of(member.id) end as status offset 0
    ) as stands
    where member.workflow_id = $1
      and (member.status is distinct from 'failed', member.id) > ($2::boolean, $3::uuid)
      and ($5::text is null or stands.status::text = $5)
    order by is_other, member.id
    limit $4
) as listed
order by listed.is_other, listed.id
