-- cancel_workflow: cancel the next $3 live jobs of workflow $1 behind id $2, for reason $4, as actor $5.
--
-- Returns them, where each stood, and the answers, as cancel_jobs does.

with live as materialized (
    select job.id from pgqueue.job
    where job.workflow_id = $1 and job.id > $2 and job.status is null
    order by job.id
    limit $3
),
stood as materialized (
    select job.*
    from live
    cross join lateral (
        select id, task, queue, status::text as was, attempt from pgqueue.jobs where jobs.id = live.id offset 0
    ) as job
    order by live.id
)
select id, task, queue, was, attempt, pgqueue.cancel(id, $4, $5) as answer from stood
