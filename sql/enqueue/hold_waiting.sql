-- hold_waiting: lock the waiting ones of jobs $1, so that they start after this transaction; says where each job stands.

select id::text, pgqueue.hold_waiting(id)::text as stands
from (select id from pg_catalog.unnest($1::text::uuid[]) as given (id) order by id offset 0) as job
