-- find_day_partitions: the day partitions, oldest first, with the ids that each takes, and whether all of them
-- are of moments longer than $1 ago; and the first id of that moment.

select name, low, high, high <= pgqueue.id_at(now() - $1::interval) as is_old,
       pgqueue.id_at(now() - $1::interval) as limit_id
from pgqueue.day_partitions()
