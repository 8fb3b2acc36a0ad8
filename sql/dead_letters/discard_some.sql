-- discard_some: discard up to $2 dead letters that match filter $1, for reason $3, on behalf of $4.

select pgqueue.discard_some($1::json, $2, $3, $4)
