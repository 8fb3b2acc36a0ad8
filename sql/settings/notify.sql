-- notify: send messages $2 on channel $1.

select pg_catalog.pg_notify($1::text, message) from pg_catalog.unnest($2::text[]) as message
