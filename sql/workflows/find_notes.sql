-- find_notes: the first $1 notes except $2 that are due within $3 seconds, and in how many seconds each is.
--
-- A time that is too far away is that of a clock that was set back.

select id,
       case when due_at between now() and now() + interval '61 seconds'
            then extract(epoch from due_at)::float8 - extract(epoch from now())::float8 else 0 end as due
from pgqueue.note
where id <> all($2::bigint[])
  and (due_at is null or due_at not between now() + make_interval(secs => $3) and now() + interval '61 seconds')
order by id
limit $1
