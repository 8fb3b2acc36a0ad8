-- end_session: the login session $1, which would be valid until $2 (seconds since 1970), is ended. Forgets those
-- that would have expired by now.

with expired as (
    delete from pgqueue.ended_session where valid_until < now()
)
insert into pgqueue.ended_session (id, valid_until)
values ($1, to_timestamp($2::double precision))
on conflict (id) do nothing
