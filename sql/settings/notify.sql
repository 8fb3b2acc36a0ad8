-- notify: send messages $2 on channel $1.

select pg_notify($1, message) from unnest($2::text[]) as message
