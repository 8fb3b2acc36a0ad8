-- refill: note up to $3 windows, from $2 on, that have room for jobs that wait in lanes $1; return the notes.

select pgqueue.refill($1, $2, $3)
