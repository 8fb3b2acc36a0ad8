-- cancel: cancel job $1 for reason $2, on behalf of $3.

select pgqueue.cancel($1, $2, $3)
