-- find_first: the row with which a batch of chore $1 begins that skips rows $2: a job ('promote', 'expire', 'unblock',
-- 'wake', 'cancel'), a key ('purge_keys'), an event ('purge_inbox'), a statistic of more than $3 ago ('purge_stats',
-- 'merge_stats'), or an operation that ended more than $3 ago ('purge_bulk', 'purge_redrives').
--
-- As the batch does, it passes over rows that others have locked: the one that is to blame is behind them.

select id
from (
    (select id from (
        select job_id as id from pgqueue.scheduled
        where $1 = 'promote' and scheduled_at <= now() and job_id <> all($2::uuid[])
        order by scheduled_at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select job_id as id from pgqueue.expiry
        where $1 = 'expire' and check_at <= now() and job_id <> all($2::uuid[])
        order by check_at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select job_id as id from pgqueue.blocked
        where $1 = 'unblock' and waits_for is not null and job_id <> all($2::uuid[])
          and (select job.status is null from pgqueue.job where job.id = blocked.waits_for) is not true
        limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select job_id as id from pgqueue.event
        where $1 = 'wake' and is_new and job_id <> all($2::uuid[])
        order by id limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select job_id as id from pgqueue.blocked
        where $1 = 'wake' and wake_at <= now() and job_id <> all($2::uuid[])
        order by wake_at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select job_id as id from pgqueue.cancel_request
        where $1 = 'cancel' and job_id <> all($2::uuid[])
          and not exists (
              select from pgqueue.running
              where running.job_id = cancel_request.job_id and running.lease_id = cancel_request.lease_id
          )
        order by job_id limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select id from pgqueue.idempotency_key
        where $1 = 'purge_keys' and expires_at <= now() and id <> all($2::uuid[])
        order by expires_at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select id from pgqueue.inbox
        where $1 = 'purge_inbox' and expires_at <= now() and id <> all($2::uuid[])
        order by expires_at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select id from pgqueue.stat
        where $1 = 'purge_stats' and at < now() - $3::interval and id <> all($2::uuid[])
        order by at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select id from pgqueue.stat
        where $1 = 'merge_stats' and not merged and at < date_trunc('minute', now() - $3::interval)
          and id <> all($2::uuid[])
        order by at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select id from pgqueue.bulk
        where $1 = 'purge_bulk' and ended_at < now() - $3::interval and id <> all($2::uuid[])
        order by ended_at limit 1
        for update skip locked
    ) as due)
    union all
    (select id from (
        select id from pgqueue.mass_redrive
        where $1 = 'purge_redrives' and ended_at < now() - $3::interval and id <> all($2::uuid[])
        order by ended_at limit 1
        for update skip locked
    ) as due)
) as first
