-- reprioritise: give the waiting job $1 priority $2 for reason $3, on behalf of $4.

select pgqueue.reprioritise($1, $2, $3, $4)
