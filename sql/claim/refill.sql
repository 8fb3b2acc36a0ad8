-- refill: let jobs through up to $3 windows, from $2 on, that have room for jobs of lanes $1, for $4 free slots.
--
-- Returns how many had room, lanes with new ready jobs, the notes that follow, and the jobs that were cancelled.

select windows, ready, more, cancelled from pgqueue.refill($1, $2, $3, $4)
