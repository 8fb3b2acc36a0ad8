-- find_first: the job with which a batch of chore $1 ('promote', 'expire', 'unblock' or 'cancel') begins that
-- skips jobs $2.

select job_id
from (
    (select job_id from pgqueue.scheduled
     where $1 = 'promote' and scheduled_at <= now() and job_id <> all($2::uuid[])
     order by scheduled_at limit 1)
    union all
    (select job_id from pgqueue.expiry
     where $1 = 'expire' and check_at <= now() and job_id <> all($2::uuid[])
     order by check_at limit 1)
    union all
    (select job_id from pgqueue.blocked
     where $1 = 'unblock' and waits_for is not null and job_id <> all($2::uuid[])
       and (select job.status is null from pgqueue.job where job.id = blocked.waits_for) is not true
     limit 1)
    union all
    (select job_id from pgqueue.cancel_request
     where $1 = 'cancel' and job_id <> all($2::uuid[])
       and not exists (
           select from pgqueue.running
           where running.job_id = cancel_request.job_id and running.lease_id = cancel_request.lease_id
       )
     order by job_id limit 1)
) as first
