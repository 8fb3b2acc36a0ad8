-- read_attempts: the unsuccessful attempts of job $1, oldest first.

select attempt, started_at, ended_at, worker, version, reason, error::text
from pgqueue.attempt
where job_id = $1
order by id
