-- count_jobs: how many jobs of each status have task $1, queue $2, tag $3 and key $4, were created at or after $5 and
-- before $6, and ended at or after $7 and before $8 (null: any), of the $9 newest with ids from $10 to $11; $12: all of
-- these are null, so that no record need be read.
--
-- Live statuses are counted in their own tables; the others among the newest jobs of all. Returns for each status how
-- many were counted, and whether there may be more.

with looked as materialized (
    (select 'ready' as source, job_id as id, 'pending' as status from pgqueue.ready
     where job_id >= $10::uuid and job_id <= $11::uuid
     order by job_id desc limit $9)
    union all
    (select 'running', job_id, case when started_at is null then 'pending' else 'running' end from pgqueue.running
     where job_id >= $10 and job_id <= $11
     order by job_id desc limit $9)
    union all
    (select 'scheduled', job_id, 'scheduled' from pgqueue.scheduled
     where job_id >= $10 and job_id <= $11
     order by job_id desc limit $9)
    union all
    (select 'blocked', job_id, 'blocked' from pgqueue.blocked
     where job_id >= $10 and job_id <= $11
     order by job_id desc limit $9)
    union all
    (select 'job', id, status::text from pgqueue.job
     where id >= $10 and id <= $11
     order by id desc limit $9)
),
full_sources as (
    select source from looked group by source having count(*) >= $9
)
select known.status,
       (select count(*)
        from looked
        where looked.status = known.status
          and ($12::boolean
               or exists (
                   select from pgqueue.job
                   where job.id = looked.id
                     and ($1::text is null or job.task = $1)
                     and ($2::text is null
                          or job.lane = any(array(select lane.id from pgqueue.lane where lane.queue = $2)))
                     and ($3::text is null or job.tags @> array[$3])
                     and ($4::text is null or job.key = $4)
                     and ($5::timestamptz is null or job.created_at >= $5)
                     and ($6::timestamptz is null or job.created_at < $6)
                     and ($7::timestamptz is null or job.completed_at >= $7)
                     and ($8::timestamptz is null or job.completed_at < $8)))) as counted,
       exists (select from full_sources where full_sources.source = any(known.sources)) as is_more
from (values ('pending', array['ready', 'running']), ('scheduled', array['scheduled']), ('blocked', array['blocked']),
             ('running', array['running']), ('succeeded', array['job']), ('failed', array['job']),
             ('cancelled', array['job']), ('expired', array['job'])) as known (status, sources)
