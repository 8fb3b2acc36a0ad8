-- list_members: the next $4 jobs of workflow $1 behind place ($2, $3), with status $5 alone unless that is null.
--
-- A place is whether a job is none of those that failed, and its id: those that failed come first. Behind them the jobs are
-- read in the order of the index, so a page costs what it shows.

select listed.id, listed.task, pgqueue.status_of(listed.id)::text as status, listed.reason,
       listed.created_at, listed.completed_at,
       coalesce(listed.started_at, (select running.started_at from pgqueue.running where running.job_id = listed.id)) as started_at,
       listed.attempt, listed.result is not null as has_result, listed.error::text as error,
       latest.attempt_started_at, latest.attempt_ended_at
from (
    select * from (
        select member.*, false as is_other
        from pgqueue.job as member
        where member.workflow_id = $1 and member.status = 'failed' and member.id > $3::uuid
          and not $2::boolean and coalesce($5::text, 'failed') = 'failed'
        order by member.id
        limit $4
    ) as failed
    union all
    select * from (
        select member.*, true as is_other
        from pgqueue.job as member
        where member.workflow_id = $1 and member.status is distinct from 'failed'
          and member.id > case when $2::boolean then $3::uuid else '00000000-0000-0000-0000-000000000000'::uuid end
          and case
              when $5::text is null then true
              when $5::text = 'failed' then false
              when member.status is not null then member.status::text = $5::text
              when $5::text = 'blocked' then exists (select from pgqueue.blocked where blocked.job_id = member.id offset 0)
              when $5::text = 'scheduled' then exists (select from pgqueue.scheduled where scheduled.job_id = member.id offset 0)
              when $5::text = 'running' then exists (
                  select from pgqueue.running where running.job_id = member.id and running.started_at is not null offset 0)
              when $5::text = 'pending' then
                  exists (select from pgqueue.ready where ready.job_id = member.id offset 0)
                  or exists (select from pgqueue.running where running.job_id = member.id and running.started_at is null offset 0)
              else false
          end
        order by member.id
        limit $4
    ) as others
    order by is_other, id
    limit $4
) as listed
left join lateral (
    select attempt_started_at, attempt_ended_at from pgqueue.jobs where jobs.id = listed.id offset 0
) as latest on true
order by listed.is_other, listed.id
