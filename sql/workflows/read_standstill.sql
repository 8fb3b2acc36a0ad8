-- read_standstill: what open workflow $1 stands still for: a job of it, and the event that this waits for.
--
-- No row: something in it moves, it is paused, or it has ended. A job that waits for an event comes first, then one that
-- stands nowhere, then the first that waits for others.

select waiting.id, waiting.task, waiting.waits, waiting.is_blocked
from (
    select workflow.id, workflow.root from pgqueue.workflow
    where workflow.id = $1 and workflow.paused_at is null and pgqueue.outcome_of(workflow.root) is null
      and pgqueue.stands_still(workflow.id)
) as still
left join lateral (
    select member.id, member.task, blocked.waits, blocked.job_id is not null as is_blocked
    from pgqueue.job as member
    left join lateral (
        select blocked.job_id, blocked.waits from pgqueue.blocked where blocked.job_id = member.id offset 0
    ) as blocked on true
    where member.workflow_id = still.id and member.status is null
    order by blocked.waits is null, blocked.job_id is not null, member.id
    limit 1
) as waiting on true
