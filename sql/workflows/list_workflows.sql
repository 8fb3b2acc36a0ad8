-- list_workflows: the $3 newest workflows with ids from $1 to $2, and where the root of each stands.
--
-- A status that is null: the root is gone.

select listed.id, listed.root, listed.name, listed.parent_job, listed.created_at, listed.paused_at, listed.stalled_at,
       case when ending.id is null then pgqueue.status_of(listed.root)::text
            else case ending.state when 'fired' then 'succeeded' when 'failed' then 'failed' else 'blocked' end end as status,
       ending.id is not null as is_group,
       coalesce(ending.ended_at, root.completed_at) as completed_at
from (
    select * from pgqueue.workflow where id between $1 and $2 order by id desc limit $3
) as listed
left join lateral (
    select id, state, ended_at from pgqueue.barrier where barrier.id = listed.root and barrier.is_join offset 0
) as ending on true
left join lateral (select completed_at from pgqueue.job where job.id = listed.root offset 0) as root on true
order by listed.id desc
