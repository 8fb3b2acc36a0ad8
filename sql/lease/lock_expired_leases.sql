-- lock_expired_leases: lock the leases that have run out, but those that somebody else is rescuing
-- or that a claim not yet committed still shares.

select id, worker
from pgqueue.lease
where expires_at <= now()
for update skip locked
