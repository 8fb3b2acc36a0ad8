-- find_existing: those of the job ids $1 that exist.

select id from pgqueue.job where id = any($1::uuid[])
