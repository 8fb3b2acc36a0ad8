-- run_now: make the scheduled job $1 pending for reason $2, on behalf of $3; false: it is pending or running already.

select pgqueue.run_now($1, $2, $3)
