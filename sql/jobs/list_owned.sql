-- list_owned: of the $11 newest jobs with ids from $12 to $13 whose header `owner` is $15, the $14 newest that have one
-- of the statuses $1, task $2, queue $3, tag $4 and key $5, were created at or after $6 and before $7, ended at or after
-- $8 and before $9, and have text $10 in their arguments (null: any).
--
-- Only for a database that has the index of owners: it looks at no job of another. Returns the jobs, how many were
-- examined, and the last of them.

with looked as materialized (
    select id, status, task, lane, tags, key, created_at, completed_at,
           case when $10::text is null then true
           else position(lower($10) in lower(substr(arguments::text, 1, 10000))) > 0 end as is_found
    from pgqueue.job
    -- The two conditions as they stand in the index.
    where headers is not null and headers ->> 'owner' = $15
      and id >= $12 and id <= $13
    order by id desc
    limit $11
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
             and ($8::timestamptz is null or looked.completed_at >= $8)
             and ($9::timestamptz is null or looked.completed_at < $9)
             and looked.is_found
             and ($1::text[] is null
                  or looked.status::text = any($1)
                  or (looked.status is null
                      and $1 && array['pending', 'scheduled', 'blocked', 'running']
                      and pgqueue.status_of(looked.id)::text = any($1)))
           order by looked.id desc
           limit $14
       ) as ids,
       (select count(*) from looked) as looked,
       (select id from looked order by id limit 1) as reached
