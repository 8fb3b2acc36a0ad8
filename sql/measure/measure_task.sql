-- measure_task: what became of the jobs of task $1 that were created in the last $2, in periods of $3 seconds: of the $4
-- newest jobs with ids from $5 to $6, their run times counted by the bounds $7 in seconds.
--
-- One row for each period with jobs, with its place (the latest is 0), and one for all of them, without. What a run
-- took is the time of the attempt that succeeded. Bounded by what is looked at, whatever is stored.

with looked as materialized (
    select id, task, status, attempt, created_at, started_at, last_started_at, completed_at
    from pgqueue.job
    where id >= $5 and id <= $6
    order by id desc
    limit $4
),
mine as materialized (
    select status, attempt, created_at,
           floor(extract(epoch from now() - least(created_at, now())) / $3::float8)::integer as place,
           -- Infinite times, written by hand, cannot be subtracted.
           case when status = 'succeeded' and isfinite(completed_at) and isfinite(coalesce(last_started_at, started_at))
                then greatest(0, extract(epoch from completed_at)::float8
                     - extract(epoch from coalesce(last_started_at, started_at))::float8) end as took
    from looked
    where task = $1 and created_at > now() - $2::interval
),
counted as (
    select width_bucket(took, $7::float8[]) as bucket, count(*) as runs from mine where took is not null group by 1
)
select place,
       count(*) filter (where status = 'succeeded' and attempt <= 1) as succeeded,
       count(*) filter (where status = 'succeeded' and attempt > 1) as retried,
       count(*) filter (where status = 'failed') as failed,
       count(*) filter (where status = 'cancelled') as cancelled,
       count(*) filter (where status = 'expired') as expired,
       count(*) filter (where status is null) as live,
       percentile_cont(array[0.5, 0.95, 0.99]) within group (order by took) as run,
       case when place is null then array(select bucket from counted order by bucket) end as buckets,
       case when place is null then array(select runs from counted order by bucket) end as runs,
       (select count(*) from looked) as looked,
       now() as now
from mine
group by grouping sets ((place), ())
order by place desc
