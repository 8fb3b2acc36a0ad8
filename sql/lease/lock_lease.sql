-- lock_lease: lock lease $1 for the transaction.
--
-- Waits for a claim under it that is not yet committed, and holds off those to come. Only a statement
-- after this one sees what that claim took.

select id from pgqueue.lease where id = $1 for update
