-- find_existing: those of the job ids $1 that exist.

select id from pgqueue.find_existing($1::uuid[]) as id
