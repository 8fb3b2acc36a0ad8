-- release_unknown: return the jobs of lease $1 except $2 to the queue; the attempt does not count.
--
-- For a claim whose answer was lost: it may have been committed, and then no worker runs its jobs while the lease
-- is valid. The caller has locked the lease in an earlier statement: see lock_lease.

with ended as (
    delete from pgqueue.running
    where lease_id = $1
      and job_id <> all($2::uuid[])
    returning job_id, ready_at, started_at, position, lane, attempt, losses
)
insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
select job_id, ready_at, position, lane,
       case when started_at is null then attempt else greatest(attempt, 1) - 1 end, losses
from ended
-- One that stands there already is pending already.
on conflict do nothing
returning job_id
