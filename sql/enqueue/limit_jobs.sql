-- limit_jobs: have the new jobs $1 wait for the limits in the JSON array $2, a list of names and keys for each.
--
-- Returns the notes that are to be attended to, as JSON; null: none.

select pg_catalog.to_json(pgqueue.limit_jobs($1::text::uuid[], $2::text::json))::text
