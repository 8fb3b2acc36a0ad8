-- discard_jobs: remove those of the jobs $1 that are dead letters from these, for reason $2, as actor $3. Returns how many.

with held as materialized (
    select job.id from pgqueue.job
    where job.id = any($1::uuid[]) and job.status = 'failed'
    order by job.id
    for update
)
select pgqueue.bury(array(select id from held), $2, $3)
