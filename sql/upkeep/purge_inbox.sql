-- purge_inbox: remove up to $1 expired records of processed events, but for $2; returns how many.

with due as materialized (
    select id from pgqueue.inbox
    where expires_at <= now() and id <> all($2::uuid[])
    order by expires_at limit $1
    for update skip locked
),
removed as (
    delete from pgqueue.inbox where id = any(array(select id from due)) returning id
)
select count(*) as count from removed
