-- lock_expired_lease: lock the expired lease $1 for the transaction.
--
-- No row back: it is gone, another worker is rescuing it, or a claim not yet committed still shares it.

select id from pgqueue.lease where id = $1 and expires_at <= now() for update skip locked
