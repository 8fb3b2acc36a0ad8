-- read_jobs: everything about jobs $1, by primary keys only.
--
-- Job by job, behind a fence (`offset 0`): a list of ids does not reach through the outer joins of the view, so each
-- table would be read whole. A single id does.

select id, status::text, queue, priority, task, arguments::text, attempt, losses, created_at, started_at,
       completed_at, next_run_at, run_at, expires_at, worker, result::text, reason, error::text,
       last_reason, last_error::text, options::text, headers::text, tags, key, progress::text,
       statement_timestamp() as read_at
from unnest($1::uuid[]) as wanted (job_id)
cross join lateral (select * from pgqueue.jobs where jobs.id = wanted.job_id offset 0) as job
