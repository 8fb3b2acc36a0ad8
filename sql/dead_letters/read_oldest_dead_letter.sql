-- read_oldest_dead_letter: the age of the oldest dead letter in seconds; no row: there is none.

select extract(epoch from now() - failed_at)::float8
from pgqueue.dead_letter
order by failed_at
limit 1
