-- purge_bulk: remove up to $1 bulk operations, but for $3, that ended more than $2 ago; returns how many.

with old as materialized (
    select id from pgqueue.bulk
    where ended_at < now() - $2::interval and id <> all($3::uuid[])
    order by ended_at limit $1
    for update skip locked
),
removed as (
    delete from pgqueue.bulk where id = any(array(select id from old)) returning id
)
select count(*) as count from removed
