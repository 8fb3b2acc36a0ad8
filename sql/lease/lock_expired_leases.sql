-- lock_expired_leases: lock the expired leases, except those that another worker is rescuing
-- or that a claim not yet committed still shares.

select id, worker
from pgqueue.lease
where expires_at <= now()
for update skip locked
