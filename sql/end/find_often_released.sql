-- find_often_released: which of jobs $1 were returned to the queue by each of their last $2 attempts.
--
-- One that counted, or was lost or snoozed, is not among them: the releases were in a row.

select wanted.job_id as id
from unnest($1::uuid[]) as wanted (job_id)
where $2::integer <= (
    select count(*)
    from (
        select attempt.reason
        from pgqueue.attempt
        where attempt.job_id = wanted.job_id
        order by attempt.id desc
        limit $2::integer
    ) as latest
    where latest.reason = 'released'
)
