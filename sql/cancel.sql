-- cancel: cancel job $1 for reason $2.

select pgqueue.cancel($1, $2)
