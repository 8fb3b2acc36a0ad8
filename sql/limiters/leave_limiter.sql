-- leave_limiter: give back hold $1, or its turn.
--
-- Returns the limiter, if others wait for it.

with gone as materialized (
    delete from pgqueue.limiter_hold where id = $1 returning limiter
)
select limiter
from gone
where exists (
    select from pgqueue.limiter_hold as waiting
    where waiting.limiter = (select limiter from gone) and waiting.since is null and waiting.id <> $1
)
