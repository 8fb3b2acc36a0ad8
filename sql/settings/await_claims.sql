-- await_claims: wait for all claims in progress.
--
-- Each claim holds a share lock on its lease. A claim that gets its lock after this statement sees everything that
-- was committed before it. Receipts are waited for in another way: see pgqueue.receive.

select id from pgqueue.lease where receipt_of is null order by id for update
