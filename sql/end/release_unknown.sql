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
select job_id, ready_at, position, lane, attempt - (started_at is not null)::integer, losses from ended
returning job_id
