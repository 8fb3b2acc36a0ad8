-- receive: receive up to $2 pending jobs of queue $1 for $3 as receiver $4 with code of version $5, whose tasks allow the
-- losses $6 if not the default; the call is $7, and its answer was lost before if $8.

select id, receipt, task, arguments::text, attempt, receive_count, priority, to_json(tags)::text as tags, headers::text,
       key, enqueued_at, held_until, options::text, task_options::text, waited, age
from pgqueue.receive($1, $2, $3::interval, $4, true, $5, $6::json, $7, $8)
