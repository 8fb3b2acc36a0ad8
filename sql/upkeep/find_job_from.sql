-- find_job_from: the first job with an id from $1 to before $2.

select id from pgqueue.job where id >= $1 and id < $2 order by id limit 1
