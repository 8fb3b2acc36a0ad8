-- read_oldest_dead_letter: for how many seconds the oldest dead letter has been one; no row: there is none.

select extract(epoch from now() - failed_at)::float8
from pgqueue.dead_letter
order by failed_at
limit 1
