-- find_silent_leases: the leases, other than $1, whose process no longer holds its advisory lock.
--
-- A hint that the process is dead. A process that has lost one connection looks the same for a moment.

select lease.id, lease.renewed_at
from pgqueue.lease
where lease.lock_key is not null
  and lease.expires_at > now()
  and lease.id <> $1
  and not exists (
      select from pg_locks
      where pg_locks.locktype = 'advisory'
        and pg_locks.granted
        and pg_locks.objsubid = 1
        and pg_locks.database = (select oid from pg_database where datname = current_database())
        and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint = lease.lock_key
  )
