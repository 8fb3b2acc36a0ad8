-- schedule: add jobs as enqueue does ($1 to $13), from templates that start at $14 or after $15.
--
-- Jobs whose time has already come are pending at once; returns these jobs and their lanes.

with template as materialized (
    select given.number, coalesce(lane.id, given.lane) as lane, given.task,
           coalesce(
               given.expires_at,
               pg_catalog.now() + pg_catalog.make_interval(secs => given.expires_after)) as expires_at,
           given.options::json, given.headers::json, given.key,
           case when given.tags is not null
                then array(select pg_catalog.json_array_elements_text(given.tags::json)) end as tags,
           coalesce(given.run_at, pg_catalog.now() + pg_catalog.make_interval(secs => given.delay)) as run_at
    from rows from (
             pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]::smallint[]),
             pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[]::timestamptz[]),
             pg_catalog.unnest($8::text[]::float8[]), pg_catalog.unnest($9::text[]),
             pg_catalog.unnest($10::text[]), pg_catalog.unnest($11::text[]), pg_catalog.unnest($12::text[]),
             pg_catalog.unnest($13::text[]::integer[]),
             pg_catalog.unnest($14::text[]::timestamptz[]), pg_catalog.unnest($15::text[]::float8[])
         ) with ordinality
         as given (queue, priority, task, expires_at, expires_after, options, headers, tags, key, lane,
                   run_at, delay, number)
    left join pgqueue.lane
        on lane.queue = given.queue and lane.priority = given.priority and lane.task = '' and lane.removed_at is null
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key, run_at)
    select given.id, template.lane, template.task, given.arguments, template.expires_at,
           template.options, template.headers, template.tags, template.key, template.run_at
    from rows from (
             pg_catalog.unnest($1::text::uuid[]), pg_catalog.json_array_elements($2::text::json),
             pg_catalog.unnest($3::text::integer[])
         ) as given (id, arguments, number)
    join template on template.number = coalesce(given.number, 1)
    returning id, lane, run_at
),
waiting as (
    insert into pgqueue.scheduled (job_id, scheduled_at, lane)
    select id, run_at, lane from added where run_at > pg_catalog.now()
),
due as (
    insert into pgqueue.ready (job_id, lane)
    select id, lane from added where run_at <= pg_catalog.now() order by id
    returning job_id, lane
)
select job_id::text as id, lane::text from due
