-- read_timeline: the cluster of this server, the timeline that it writes, and its start; no row: it is a standby; no parameters.
-- Each promotion begins a timeline: the first digits of the names of files of the log.

select control.system_identifier::text as cluster,
       ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::integer
           as timeline,
       pg_catalog.pg_postmaster_start_time() as began_at
from pg_catalog.pg_control_system() as control
where not pg_catalog.pg_is_in_recovery()
