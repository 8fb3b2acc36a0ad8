-- list_dead_letters: up to $4 dead letters that match filter $1, newest first, older than that of job $3, which
-- failed at $2 (null: from the newest on).

select job_id, failed_at, task, queue, reason, fingerprint, error_type, message, attempt, worker, version
from pgqueue.find_dead_letters($1::json, $2::timestamptz, $3::uuid, true, $4)
