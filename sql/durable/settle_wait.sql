-- settle_wait: what wait $3 of job $1, which is running under lease $2, has come to: for event $4 or time $5, at place $6,
-- of kind $7, in call $8.
--
-- Returns whether the lease is held; a list of the event, or an empty one if the time is over; or null, and until when
-- it goes on.

select is_held, outcome, wake_at, wakes_in from pgqueue.come_to_wait($1, $2, $3, $4, $5, $6, $7, $8)
