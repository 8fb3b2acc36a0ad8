-- hold_lock: hold advisory lock $1 for as long as this session lives.
--
-- False: another session has it, which after a reconnect is the one that the server does not yet know
-- to be dead. Peers see it held either way.

select pg_try_advisory_lock($1::bigint)
