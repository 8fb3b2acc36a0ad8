-- purge: remove those of the next $3 jobs from id $1 to before $2 that are past the retention of succeeded ($4),
-- failed ($5), cancelled ($6) and expired jobs ($7), and the rows of other tables on them.
--
-- Each is checked again as it is removed, because a job that was requeued meanwhile is live. Returns how many were
-- examined and removed, and the last one examined.

with looked as materialized (
    select id,
           pgqueue.is_past(status, completed_at, $4, $5, $6, $7)
           and (hooks is null or not pgqueue.is_needed(id)) as is_past
    from pgqueue.job
    where id >= $1
      and id < $2
    order by id
    limit $3
),
gone as (
    delete from pgqueue.job
    where id = any(array(select id from looked where is_past))
      and pgqueue.is_past(status, completed_at, $4, $5, $6, $7)
      and (hooks is null or not pgqueue.is_needed(id))
    returning id
)
select (select count(*) from looked) as looked,
       (select count(*) from gone) as removed,
       (select id from looked order by id desc limit 1) as reached,
       pgqueue.forget(array(select id from gone))
