-- list_running: the $2 longest-running jobs of each lease, longest first, among the first $1 running jobs.

with held as materialized (
    select job_id, lease_id, lane, attempt, started_at from pgqueue.running order by job_id limit $1
),
longest as materialized (
    select * from (
        select held.*, row_number() over (partition by lease_id order by started_at, job_id) as place
        from held
        where started_at is not null
    ) as ranked
    where place <= $2
      -- Row by row: what consumers hold are leases, too, of any number.
      and (select lease.receipt_of is null from pgqueue.lease where lease.id = ranked.lease_id)
)
select longest.lease_id, longest.job_id, job.task,
       coalesce((select lane.queue from pgqueue.lane where lane.id = longest.lane), '') as queue,
       longest.attempt, longest.started_at,
       least(1e12, greatest(-1e12,
           extract(epoch from now())::float8 - extract(epoch from longest.started_at)::float8)) as seconds,
       (select progress.value from pgqueue.progress where progress.job_id = longest.job_id) as progress
from longest
join pgqueue.job on job.id = longest.job_id
where job.id = any(array(select job_id from longest))
order by longest.lease_id, longest.place
