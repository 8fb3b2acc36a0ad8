-- await_claims: wait for every claim that is under way.
--
-- Each holds a share lock on its lease. A claim that gets its lock after this sees what was committed
-- before this.

select id from pgqueue.lease order by id for update
