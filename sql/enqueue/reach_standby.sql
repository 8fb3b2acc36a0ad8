-- reach_standby: commit something, so that the commit waits for the synchronous standby.
--
-- Whoever waits for it has waited for whatever was committed before: the standby gets the log in its order. A
-- message is written by any role, to no table, and read by nobody.

select pg_catalog.pg_logical_emit_message(true, 'pgqueue', ''::text)
