-- list_jobs: of the $8 newest jobs with ids from $9 to $10, the $11 newest that have one of the statuses $1, task
-- $2, queue $3, tag $4 and key $5, and were created at or after $6 and before $7 (null: any); ids with a time in
-- them can match only from $12 to $13.
--
-- An id without a time is in the default partition, whatever its place in the order. Returns the jobs, how many
-- were examined, and the last of them.

with looked as materialized (
    select id, status, task, lane, tags, key, created_at
    from (
        (select id, status, task, lane, tags, key, created_at
         from pgqueue.job_default
         where id >= $9 and id <= $10 and id > $13
         order by id desc limit $8)
        union all
        (select id, status, task, lane, tags, key, created_at
         from pgqueue.job
         where id >= greatest($9, $12::uuid) and id <= least($10, $13::uuid)
         order by id desc limit $8)
        union all
        (select id, status, task, lane, tags, key, created_at
         from pgqueue.job_default
         where id >= $9 and id <= $10 and id < $12
         order by id desc limit $8)
    ) as around
    order by id desc
    limit $8
)
select array(
           select looked.id
           from looked
           where ($2::text is null or looked.task = $2)
             and ($3::text is null or looked.lane = any(array(select lane.id from pgqueue.lane where lane.queue = $3)))
             and ($4::text is null or looked.tags @> array[$4])
             and ($5::text is null or looked.key = $5)
             and ($6::timestamptz is null or looked.created_at >= $6)
             and ($7::timestamptz is null or looked.created_at < $7)
             and ($1::text[] is null
                  or looked.status::text = any($1)
                  or (looked.status is null
                      -- Where live jobs stand is only asked if one of them can match.
                      and $1 && array['pending', 'scheduled', 'blocked', 'running']
                      and pgqueue.status_of(looked.id)::text = any($1)))
           order by looked.id desc
           limit $11
       ) as ids,
       (select count(*) from looked) as looked,
       (select id from looked order by id limit 1) as reached
