-- take_limiter: have job $6, which runs under lease $7, take one of the $4 of limiter $3 of kind $2 as hold $1: a slot,
-- or a time in each $5 seconds; if there is none, and $8 is true, it keeps its turn.
--
-- Returns held, waits, full, or lost (the attempt is over), and in how many seconds to ask again at the earliest.

select verdict, retry_after from pgqueue.take_limiter($1, $2, $3, $4, $5, $6, $7, $8)
