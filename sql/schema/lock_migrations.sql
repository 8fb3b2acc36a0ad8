-- lock_migrations: let one process at a time migrate the schema named $1, to the end of the transaction.

select pg_advisory_xact_lock(hashtext('migrate ' || $1::text))
