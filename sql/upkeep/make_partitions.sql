-- make_partitions: make the missing partitions of today and the next $1 days.

select count(*) filter (where made) as made
from generate_series(0, $1::integer) as day (ahead)
cross join lateral pgqueue.make_partition(now() + make_interval(hours => 24 * day.ahead)) as made
