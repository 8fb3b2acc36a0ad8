-- read_dead_letters: the dead letters of jobs $1.

select job_id, failed_at, task, queue, reason, fingerprint, error_type, message, attempt, worker, version
from pgqueue.dead_letter
where job_id = any($1::uuid[])
