-- purge_keys: remove up to $1 idempotency keys, but for $2, that are no longer held.
--
-- A key that a job holds until it ends is examined again in an hour. Returns how many were examined.

with due as materialized (
    select id, span, job_id
    from pgqueue.idempotency_key
    where expires_at <= now() and id <> all($2::uuid[])
    order by expires_at
    limit $1
    for update skip locked
),
judged as materialized (
    select id, span <> 'window' and pgqueue.is_held(span, job_id) as is_held from due
),
kept as (
    update pgqueue.idempotency_key
    set expires_at = now() + interval '1 hour'
    where id = any(array(select id from judged where is_held))
),
removed as (
    delete from pgqueue.idempotency_key
    where id = any(array(select id from judged where not is_held))
)
select count(*) as count from due
