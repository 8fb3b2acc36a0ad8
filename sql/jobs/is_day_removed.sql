-- is_day_removed: whether job id $1 is from a day of which all jobs were removed.
--
-- A UUIDv7 contains its day. pgqueue must have been in the database by then, and the day must be over.

select wanted.day_low is not null
   and wanted.id >= pgqueue.id_at((select min(applied_at) from pgqueue.migration))
   and wanted.id < pgqueue.id_at(date_trunc('day', now(), 'UTC'))
   and not exists (select from pgqueue.job where job.id >= wanted.day_low and job.id < wanted.day_high)
from (
    select given.id, pgqueue.id_at(given.day) as day_low, pgqueue.id_at(given.day + interval '24 hours') as day_high
    from (
        select $1::uuid as id,
               case when substr($1::uuid::text, 15, 1) = '7' then date_trunc('day', to_timestamp(
                   ('x' || lpad(translate(left($1::uuid::text, 13), '-', ''), 16, '0'))::bit(64)::bigint / 1000.0), 'UTC')
               end as day
    ) as given
) as wanted
