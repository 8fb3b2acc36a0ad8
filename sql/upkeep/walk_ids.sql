-- walk_ids: the next $2 ids behind $1 of jobs, and of places where jobs stand.

select distinct id
from (
    (select id from pgqueue.job where id > $1 order by id limit $2)
    union all
    (select job_id from pgqueue.ready where job_id > $1 order by job_id limit $2)
    union all
    (select job_id from pgqueue.running where job_id > $1 order by job_id limit $2)
    union all
    (select job_id from pgqueue.scheduled where job_id > $1 order by job_id limit $2)
    union all
    (select job_id from pgqueue.blocked where job_id > $1 order by job_id limit $2)
) as behind
order by id
limit $2
