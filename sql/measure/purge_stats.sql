-- purge_stats: remove up to $1 rows, but for $3, that were written more than $2 ago; returns how many.

with old as materialized (
    select id from pgqueue.stat
    where at < now() - $2::interval and id <> all($3::uuid[])
    order by at limit $1
    for update skip locked
),
removed as (
    delete from pgqueue.stat where id = any(array(select id from old)) returning id
)
select count(*) as count from removed
