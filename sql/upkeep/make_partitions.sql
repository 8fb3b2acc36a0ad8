-- make_partitions: make the partitions of today and the $1 days after it that are missing.

select count(*) filter (where made) as made
from generate_series(0, $1::integer) as day (ahead)
cross join lateral pgqueue.make_partition(now() + day.ahead * interval '1 day') as made
