-- list_owned: of the $8 newest jobs with ids from $9 to $10 whose header `owner` is $12, the $11 newest that have one of
-- the statuses $1, task $2, queue $3, tag $4 and key $5, and were created at or after $6 and before $7 (null: any).
--
-- Only for a database that has the index of owners: it looks at no job of another. Returns the jobs, how many were
-- examined, and the last of them.

with looked as materialized (
    select id, status, task, lane, tags, key, created_at
    from pgqueue.job
    -- The two conditions as they stand in the index.
    where headers is not null and headers ->> 'owner' = $12
      and id >= $9 and id <= $10
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
                      and $1 && array['pending', 'scheduled', 'blocked', 'running']
                      and pgqueue.status_of(looked.id)::text = any($1)))
           order by looked.id desc
           limit $11
       ) as ids,
       (select count(*) from looked) as looked,
       (select id from looked order by id limit 1) as reached
