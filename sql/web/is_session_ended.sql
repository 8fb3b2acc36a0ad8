-- is_session_ended: whether the login session $1 was ended before it expired.

select exists (select from pgqueue.ended_session where id = $1)
