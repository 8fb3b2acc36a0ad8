-- cancel_jobs: cancel each of the jobs $1 for reason $2, as actor $3. Returns the answer for each.

select job_id, pgqueue.cancel(job_id, $2, $3) as answer from unnest($1::uuid[]) as given (job_id)
