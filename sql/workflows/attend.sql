-- attend: attend to up to $2 of the notes $1, or of all that there are if $1 is null.
--
-- Returns how many were taken, the notes that follow, lanes with new ready jobs, and the jobs that were cancelled.

select taken, more, lanes, cancelled from pgqueue.attend($1::bigint[], $2)
