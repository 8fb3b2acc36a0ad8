-- await_claims: wait for all claims in progress.
--
-- Each claim holds a share lock on its lease. A claim that gets its lock after this statement sees everything that
-- was committed before it.

select id from pgqueue.lease order by id for update
