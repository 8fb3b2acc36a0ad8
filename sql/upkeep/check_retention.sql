-- check_retention: how many the next $3 jobs from id $1 to before $2 are, whether all of them are past the retention
-- of succeeded ($4), failed ($5), cancelled ($6) and expired jobs ($7), and the last of them.

with looked as materialized (
    select id,
           pgqueue.is_past(status, completed_at, $4, $5, $6, $7)
           and (hooks is null or not pgqueue.is_needed(id)) as is_past
    from pgqueue.job
    where id >= $1
      and id < $2
    order by id
    limit $3
)
select count(*) as looked, coalesce(bool_and(is_past), true) as are_past,
       (select id from looked order by id desc limit 1) as reached
from looked
