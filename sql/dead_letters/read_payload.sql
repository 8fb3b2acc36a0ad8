-- read_payload: the arguments of job $1, as they were stored.

select arguments::text from pgqueue.job where id = $1
