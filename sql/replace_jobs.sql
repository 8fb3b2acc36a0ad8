-- replace_jobs: give jobs that have not started the arguments, options and times of the JSON array $1.
--
-- Returns the jobs that took them. A function, because the connection may be a caller's, without our settings.

select pgqueue.replace_jobs($1::text::json)
