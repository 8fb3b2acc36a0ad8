-- read_jobs: everything about jobs $1. Primary keys only.

select id, status::text, queue, priority, task, arguments::text, attempt, losses, created_at, started_at,
       completed_at, next_run_at, run_at, expires_at, worker, result::text, reason, error::text,
       last_reason, last_error::text, options::text, headers::text, tags, key
from pgqueue.jobs
where id = any($1::uuid[])
