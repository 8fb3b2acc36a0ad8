-- discard: take the failed job $1 out of the dead letters for reason $2, on behalf of $3; false: it is out.

select pgqueue.discard($1, $2, $3)
