-- mark_processed: record event $2 of source $1 for $3, with marker $4; false: it was recorded before.

select pgqueue.mark_processed($1, $2, $3, $4)
