-- hold_attempt: whether job $1 is running under lease $2.

select exists (select from pgqueue.running where job_id = $1 and lease_id = $2)
