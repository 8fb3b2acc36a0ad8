-- find_cancel_requests: the jobs under lease $1 that have a request to cancel them.

select job_id from pgqueue.cancel_request where lease_id = $1
