-- notify: send messages $2 on channel $1, unless the queue of notifications is nearly full.
--
-- Where some session listens and neither reads nor ends, it fills up, and then no transaction that notifies can
-- commit, a caller's included. Polling finds what is not announced.

select pg_catalog.pg_notify($1::text, message)
from pg_catalog.unnest($2::text[]) as message
where (select pg_catalog.pg_notification_queue_usage()) < 0.9::float8
