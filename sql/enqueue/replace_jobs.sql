-- replace_jobs: give jobs that have not started the arguments, options and times in the JSON array $1. Where it says
-- keeps_time, they keep their own.
--
-- Returns the jobs that were changed, with their previous and present status; a blocked job stays blocked. A
-- function, because the connection may be the caller's, without pgqueue's settings.

select job_id::text as id, pgqueue.status_of(job_id)::text as was,
       (case when call.keeps_time then pgqueue.status_of(job_id) = 'scheduled'
             else (coalesce(call.run_at, pg_catalog.now() + pg_catalog.make_interval(secs => call.delay))
                   > pg_catalog.now()) is true end)::text as is_timed
from pgqueue.replace_jobs($1::text::json) as job_id
join pg_catalog.json_to_recordset($1::text::json) as call (
        job_id pg_catalog.uuid, run_at pg_catalog.timestamptz, delay double precision, keeps_time boolean)
    using (job_id)
