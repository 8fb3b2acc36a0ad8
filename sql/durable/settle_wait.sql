-- settle_wait: what the wait $3 of job $1, which is running under lease $2, has come to: for event $4, or for time $5.
--
-- Returns whether the lease is held; a list of the event, or an empty one if the time is over; or null, and until when
-- it goes on. The wait stands at place $6, is of kind $7, and belongs to call $8.

select is_held, outcome, wake_at, wakes_in from pgqueue.come_to_wait($1, $2, $3, $4, $5, $6, $7, $8)
