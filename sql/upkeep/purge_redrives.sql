-- purge_redrives: remove up to $1 mass redrives, but for $3, that ended more than $2 ago; returns how many.

with old as materialized (
    select id from pgqueue.mass_redrive
    where ended_at < now() - $2::interval and id <> all($3::uuid[])
    order by ended_at limit $1
    for update skip locked
),
removed as (
    delete from pgqueue.mass_redrive where id = any(array(select id from old)) returning id
)
select count(*) as count from removed
