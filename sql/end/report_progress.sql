-- report_progress: store the progress $3 of those of jobs $2 that are running under their leases $1.

with holder as materialized (
    select running.job_id, running.lease_id
    from pgqueue.running
    where running.job_id = any($2::uuid[])
    order by running.job_id
    for key share
)
insert into pgqueue.progress (job_id, value)
select given.job_id, given.value
from unnest($1::uuid[], $2::uuid[], $3::json[]) as given (lease_id, job_id, value)
join holder on holder.job_id = given.job_id and holder.lease_id = given.lease_id
on conflict (job_id) do update set value = excluded.value, reported_at = excluded.reported_at
