-- read_jobs: everything about jobs $1, by primary keys only; results of more than $2 characters are left out (null: none).
--
-- What is left out is not read, as far as its size as it is stored tells: that is looked up without fetching it, and a
-- character has at most four bytes. The size of such a result is then that, in bytes, compressed or not.
--
-- Job by job, behind a fence (`offset 0`): a list of ids does not reach through the outer joins of the view, so each
-- table would be read whole. A single id does.

select id, status::text, queue, priority, task, arguments::text, attempt, losses, created_at, started_at,
       completed_at, next_run_at, run_at, expires_at, worker,
       case when $2::integer is null then result::text
            when pg_column_size(result) > 4 * $2 then null
            when length(result::text) <= $2 then result::text end as result,
       case when $2 is null then null
            when pg_column_size(result) > 4 * $2 then pg_column_size(result)
            else length(result::text) end as result_size,
       reason, error::text,
       last_reason, last_error::text, options::text, headers::text, tags, key, progress::text,
       attempt_started_at, attempt_ended_at, statement_timestamp() as read_at,
       case when status = 'blocked' then (
           select record.gates[2 * number - 1]
           from pgqueue.blocked
           join pgqueue.job as record on record.id = blocked.job_id
           cross join lateral generate_series(1, cardinality(record.gates) / 2) as number
           where blocked.job_id = job.id
             -- Not by an equality: the index of what waits would be searched.
             and pgqueue.key_id(record.gates[2 * number - 1], record.gates[2 * number]) is not distinct from blocked.gate
           limit 1
       ) end as waits_for_limit,
       case when status = 'pending' then (
           select lane.priority from pgqueue.ready join pgqueue.lane on lane.id = ready.lane
           where ready.job_id = job.id and lane.priority > job.priority
       ) end as raised_to
from unnest($1::uuid[]) as wanted (job_id)
cross join lateral (select * from pgqueue.jobs where jobs.id = wanted.job_id offset 0) as job
