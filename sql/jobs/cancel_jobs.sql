-- cancel_jobs: cancel each of the jobs $1 for reason $2, as actor $3.
--
-- Returns for each existing job the answer, and where it stood when this began; it may have moved on before it was
-- cancelled. Job by job, behind a fence: see read_jobs.

with stood as materialized (
    select job.*
    from unnest($1::uuid[]) as wanted (job_id)
    cross join lateral (
        select id, task, queue, status::text as was, attempt from pgqueue.jobs where jobs.id = wanted.job_id offset 0
    ) as job
)
select id, task, queue, was, attempt, pgqueue.cancel(id, $2, $3) as answer from stood
