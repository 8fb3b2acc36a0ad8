-- identify: which database this is, of which run of its server, and its name; no parameters.

select pg_catalog.concat(database.oid, ' ', extract(epoch from pg_catalog.pg_postmaster_start_time()))::text as identity,
       database.datname::text as name
from pg_catalog.pg_database as database
where database.datname = pg_catalog.current_database()
