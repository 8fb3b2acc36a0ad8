-- list_nodes: the next $3 jobs of workflow $1 behind id $2, those with status $4 alone unless that is null.

select job.id, job.task, stands.status::text as status, job.reason, job.created_at, job.completed_at
from pgqueue.job
cross join lateral (
    select case when job.status is not null then job.status else pgqueue.status_of(job.id) end as status offset 0
) as stands
where job.workflow_id = $1
  and job.id > $2
  and ($4::text is null or stands.status::text = $4)
order by job.id
limit $3
