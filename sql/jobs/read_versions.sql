-- read_versions: the version of each of jobs $1, which changes with every change of the job, and whether the job
-- has ended, by primary keys only.
--
-- Every change of a job writes a row, and the row has the id of the transaction that wrote it. Job by job, behind a
-- fence: see read_jobs.

select wanted.job_id, job.is_terminal, job.version
from unnest($1::uuid[]) as wanted (job_id)
cross join lateral (
    select job.status is not null as is_terminal,
           row(job.xmin, ready.xmin, running.xmin, scheduled.xmin, blocked.xmin, progress.xmin)::text as version
    from pgqueue.job
    left join pgqueue.ready on ready.job_id = job.id
    left join pgqueue.running on running.job_id = job.id
    left join pgqueue.scheduled on scheduled.job_id = job.id
    left join pgqueue.blocked on blocked.job_id = job.id
    left join pgqueue.progress on progress.job_id = job.id
    where job.id = wanted.job_id
    offset 0
) as job
