-- requeue_jobs: make those of the jobs $1 pending again that have one of the terminal statuses $2, for reason $3, as
-- actor $4. Returns how many, and their lanes.

select requeued, lanes from pgqueue.requeue($1, $2, $3, $4)
