-- hold_waiting: lock those of jobs $1 that wait, so that they start after this transaction; say where all stand.

select id, pgqueue.hold_waiting(id) as stands
from (select id from unnest($1::text::uuid[]) as given (id) order by id offset 0) as job
