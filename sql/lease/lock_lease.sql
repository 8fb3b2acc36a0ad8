-- lock_lease: lock lease $1 for the transaction.
--
-- Waits for claims under it that are not yet committed, and blocks later ones. Only a statement after this one sees
-- what those claims took.

select id from pgqueue.lease where id = $1 for update
