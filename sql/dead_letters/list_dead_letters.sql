-- list_dead_letters: up to $4 dead letters that filter $1 takes in, newest first, older than the one of
-- job $3 that failed at $2 (null: from the newest on).

select job_id, failed_at, task, queue, reason, fingerprint, error_type, message, attempt, worker, version
from pgqueue.find_dead_letters($1::json, $2::timestamptz, $3::uuid, true, $4)
