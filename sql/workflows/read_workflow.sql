-- read_workflow: workflow $1, and the status of its root; null: its root is gone.

select workflow.id, workflow.root, workflow.name, workflow.parent_job, workflow.created_at, workflow.paused_at,
       coalesce(
           (select case barrier.state when 'fired' then 'succeeded' when 'failed' then 'failed' else 'blocked' end
            from pgqueue.barrier where barrier.id = workflow.root and barrier.is_join),
           pgqueue.status_of(workflow.root)::text) as status
from pgqueue.workflow
where workflow.id = $1
