-- find_cancel_requests: which of lease $1's jobs somebody asked to cancel.

select job_id from pgqueue.cancel_request where lease_id = $1
