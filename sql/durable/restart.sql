-- restart: have jobs $2 of lease $1 begin anew with the arguments in the JSON array $3, and without their steps.
--
-- Returns the jobs that this lease still held, and their lanes.

select restarted, lanes from pgqueue.restart($1, $2::uuid[], $3::text::json)
