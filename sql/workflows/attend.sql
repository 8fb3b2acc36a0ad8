-- attend: attend to up to $2 of the notes $1, or of all that are due if $1 is null.
--
-- Returns how many were taken, the notes that follow, lanes with new ready jobs, the jobs that were cancelled, and notes
-- that are to be attended to later, in so many seconds.

select taken, more, lanes, cancelled, later, due from pgqueue.attend($1::bigint[], $2)
