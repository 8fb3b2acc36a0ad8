-- list_owned_letters: up to $4 dead letters of jobs whose header `owner` is $5, which match filter $1, newest first,
-- older than that of job $3, which failed at $2 (null: from the newest on).
--
-- Only for a database that has the index of owners: it looks at no job of another.

with owned as materialized (
    select id
    from pgqueue.job
    -- The first two conditions as they stand in the index.
    where headers is not null and headers ->> 'owner' = $5 and status = 'failed'
)
select job_id, failed_at, task, queue, reason, fingerprint, error_type, message, attempt, worker, version
from pgqueue.dead_letter
where job_id = any(array(select id from owned))
  and ($1::json ->> 'task' is null or task = $1::json ->> 'task')
  and ($1::json ->> 'queue' is null or queue = $1::json ->> 'queue')
  and ($1::json ->> 'reason' is null or reason = $1::json ->> 'reason')
  and ($1::json ->> 'fingerprint' is null or fingerprint = $1::json ->> 'fingerprint')
  and ($1::json ->> 'error_type' is null or error_type = $1::json ->> 'error_type')
  and ($1::json ->> 'failed_after' is null or failed_at >= ($1::json ->> 'failed_after')::timestamptz)
  and ($1::json ->> 'failed_before' is null or failed_at < ($1::json ->> 'failed_before')::timestamptz)
  and ($2::timestamptz is null or (failed_at, job_id) < ($2, $3::uuid))
order by failed_at desc, job_id desc
limit $4
