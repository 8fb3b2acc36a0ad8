-- find_doubtful_leases: the leases, other than $1, that have expired or whose process no longer holds its advisory
-- lock, each with the time; one row of nulls with the time if there are none.
--
-- Hints that a process is dead. One that has lost its connections, or whose server was away, looks the same for a
-- moment; so does every lease after a step of the server's clock. `is_judged`: a rescue has begun.

with held as materialized (
    select (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint as key
    from pg_locks
    where pg_locks.locktype = 'advisory'
      and pg_locks.granted
      and pg_locks.objsubid = 1
      and pg_locks.database = (select oid from pg_database where datname = current_database())
),
doubtful as (
    select lease.id, lease.worker, lease.renewed_at, lease.expires_at, lease.beside is not null as is_judged,
           lease.lock_key is not null and lease.lock_key not in (select key from held) as is_unlocked,
           lease.receipt_of is not null as is_receipt
    from pgqueue.lease
    where lease.id is distinct from $1::uuid
)
select clock.now, doubtful.*
from (select now() as now) as clock
left join doubtful on doubtful.expires_at <= clock.now or doubtful.is_unlocked
order by doubtful.expires_at
