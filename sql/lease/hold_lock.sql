-- hold_lock: take advisory lock $1 for the life of this session.
--
-- False: another session has it. After a reconnect that is the old session, which the server does not yet know to be
-- dead. Other workers see the lock as held either way.

select pg_try_advisory_lock($1::bigint)
