-- discard_some: discard up to $2 dead letters that filter $1 takes in, for reason $3, on behalf of $4.

select pgqueue.discard_some($1::json, $2, $3, $4)
