-- replace_jobs: give jobs that have not started the arguments, options and times of the JSON array $1.
--
-- Returns the jobs that took them, where each stood before, and where it stands now: what is blocked stays so. A
-- function, because the connection may be a caller's, without our settings.

select job_id as id, pgqueue.status_of(job_id)::text as was,
       (coalesce(call.run_at, now() + make_interval(secs => call.delay)) > now()) is true as is_timed
from pgqueue.replace_jobs($1::text::json) as job_id
join json_to_recordset($1::text::json) as call (job_id uuid, run_at timestamptz, delay double precision)
    using (job_id)
