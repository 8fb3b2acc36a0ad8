-- release: give jobs $2 of lease $1 at worker $3 back, at the positions they had, their attempts unspent.
--
-- Returns the jobs that were still this lease's, and their lanes.

with ended as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
    returning job_id, ready_at, started_at, position, lane, attempt, losses
),
history as (
    insert into pgqueue.attempt (job_id, attempt, started_at, worker, version, reason)
    select job_id, attempt, started_at, $3, (select lease.version from pgqueue.lease where lease.id = $1), 'released'
    from ended where started_at is not null
)
insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
select job_id, ready_at, position, lane, attempt - (started_at is not null)::integer, losses from ended
returning job_id as id, lane
