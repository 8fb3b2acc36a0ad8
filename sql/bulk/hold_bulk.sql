-- hold_bulk: lock the bulk operation that is carried on next, or $1 (null: any), for this transaction.
--
-- No row: none is running, or other workers are at it.

select id, verb, filter, job_ids, expected, reason, actor, state, found, done, reached, created_at, ended_at
from pgqueue.bulk
where state = 'running' and ($1::uuid is null or id = $1)
order by carried_at, id
limit 1
for update skip locked
