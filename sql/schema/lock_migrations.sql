-- lock_migrations: let only one process migrate the schema named $1, until the transaction ends.

select pg_advisory_xact_lock(hashtext('migrate ' || $1::text))
