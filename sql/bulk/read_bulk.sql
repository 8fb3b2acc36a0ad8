-- read_bulk: bulk operation $1.

select id, verb, filter, job_ids, expected, reason, actor, state, found, done, reached, created_at, ended_at
from pgqueue.bulk
where id = $1
