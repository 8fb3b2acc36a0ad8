-- list_by_status: of the $11 newest rows about jobs with ids from $12 to $13 in the tables of the statuses $1, which are
-- live or 'failed', the $14 newest jobs that have task $2, queue $3, tag $4 and key $5, were created at or after $6 and
-- before $7, ended at or after $8 and before $9, and have text $10 in their arguments (null: any).
--
-- Each status is read from its own table, whatever stands in the others. A job that has failed has attempts, and is
-- told from one that was retried by its record. Returns the jobs, how many rows were examined, and the last of them.

with looked as materialized (
    select id, is_live
    from (
        (select job_id as id, true as is_live from pgqueue.ready
         where 'pending' = any($1::text[]) and job_id >= $12 and job_id <= $13
         order by job_id desc limit $11)
        union all
        (select job_id, true from pgqueue.running
         where case when started_at is null then 'pending' else 'running' end = any($1)
           and job_id >= $12 and job_id <= $13
         order by job_id desc limit $11)
        union all
        (select job_id, true from pgqueue.scheduled
         where 'scheduled' = any($1) and job_id >= $12 and job_id <= $13
         order by job_id desc limit $11)
        union all
        (select job_id, true from pgqueue.blocked
         where 'blocked' = any($1) and job_id >= $12 and job_id <= $13
         order by job_id desc limit $11)
        union all
        (select job_id, false from pgqueue.attempt
         where 'failed' = any($1) and job_id >= $12 and job_id <= $13
         order by job_id desc limit $11)
    ) as standing
    order by id desc
    limit $11
)
select array(
           select job.id
           from pgqueue.job
           where job.id = any(array(select id from looked))
             and case when job.status is null then job.id = any(array(select id from looked where is_live))
                      else job.status::text = any($1) end
             and ($2::text is null or job.task = $2)
             and ($3::text is null or job.lane = any(array(select lane.id from pgqueue.lane where lane.queue = $3)))
             and ($4::text is null or job.tags @> array[$4])
             and ($5::text is null or job.key = $5)
             and ($6::timestamptz is null or job.created_at >= $6)
             and ($7::timestamptz is null or job.created_at < $7)
             and ($8::timestamptz is null or job.completed_at >= $8)
             and ($9::timestamptz is null or job.completed_at < $9)
             and ($10::text is null or position(lower($10) in lower(substr(job.arguments::text, 1, 10000))) > 0)
           order by job.id desc
           limit $14
       ) as ids,
       (select count(*) from looked) as looked,
       (select id from looked order by id limit 1) as reached
