-- settle_cancel_requests: carry out requests whose job is no longer running under the lease they name.
--
-- The attempt ended while the request was being written: a job that waits for its next attempt is
-- cancelled now, a terminal one stays as it is.

with settled as (
    delete from pgqueue.cancel_request
    where not exists (
        select from pgqueue.running
        where running.job_id = cancel_request.job_id and running.lease_id = cancel_request.lease_id
    )
    returning job_id, reason, actor
)
select job_id, pgqueue.cancel(job_id, reason, actor) as answer from settled
