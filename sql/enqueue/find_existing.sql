-- find_existing: those of the job ids $1 that exist.

select id::text from pgqueue.find_existing($1::text::uuid[]) as id
