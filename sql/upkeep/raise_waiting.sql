-- raise_waiting: raise jobs of queue $1 by a priority for each $2 seconds that they have waited, up to $3 jobs.
--
-- Priorities are those that the queue has lanes of; the highest is the highest that has jobs waiting, so where nothing
-- waits above nothing is raised. Looks at the first jobs of each lane alone, however many wait. How far a job is to be
-- raised follows from its record and from its time, so a repetition changes nothing. It keeps its position and its time.
--
-- Returns how many were raised to each priority, and the lanes.

with level as materialized (
    select id, priority, row_number() over (order by priority) as number
    from pgqueue.lane
    where queue = $1 and task = '' and removed_at is null and not paused
),
highest as materialized (
    select number from level
    where exists (select from pgqueue.ready where ready.lane = level.id)
    order by number desc limit 1
),
waiting as materialized (
    select first.job_id, first.waited, level.id as lane, level.number
    from level
    cross join lateral (
        -- Extracted separately: before PostgreSQL 17, an infinite time cannot be subtracted.
        select ready.job_id, extract(epoch from now())::float8 - extract(epoch from ready.ready_at)::float8 as waited
        from pgqueue.ready
        where ready.lane = level.id
        order by ready.position
        limit greatest($3 / (select count(*) from level), 10)
    ) as first
    where level.number < (select number from highest)
),
due as materialized (
    select waiting.job_id, waiting.lane, waiting.number,
           least(
               coalesce((select level.number from level where level.id = record.lane), waiting.number)
               + floor(least(waiting.waited / $2::float8, 1e6))::bigint,
               (select number from highest)) as goes_to
    from waiting
    cross join lateral (select (select job.lane from pgqueue.job where job.id = waiting.job_id) as lane) as record
    where waiting.waited >= $2::float8
),
chosen as materialized (
    -- Whoever claims or cancels one has it.
    select ready.job_id from pgqueue.ready
    where ready.job_id = any(array(select job_id from due where goes_to > number limit $3))
    for update skip locked
),
raised as (
    update pgqueue.ready
    set lane = level.id
    from due
    join level on level.number = due.goes_to
    where ready.job_id = due.job_id and ready.lane = due.lane
      and ready.job_id = any(array(select job_id from chosen))
    returning ready.lane, level.priority
)
select lane, priority, count(*)::integer as jobs from raised group by lane, priority order by priority
