-- find_existing: which of the job ids $1 are taken.

select id from pgqueue.job where id = any($1::uuid[])
