-- read_payload: the arguments of job $1, as they are stored.

select arguments::text from pgqueue.job where id = $1
