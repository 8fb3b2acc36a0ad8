-- find_day_partitions: the daily partitions, oldest first, with their ids, whether all of these are more than $1 old,
-- and the first id that is not.

select name, low, high, high <= pgqueue.id_at(now() - $1::interval) as is_old,
       pgqueue.id_at(now() - $1::interval) as limit_id
from pgqueue.day_partitions()
