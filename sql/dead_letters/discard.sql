-- discard: remove the failed job $1 from the dead letters for reason $2, on behalf of $3; false: it is not among them.

select pgqueue.discard($1, $2, $3)
