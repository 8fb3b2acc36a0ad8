-- schedule: add jobs as enqueue does ($1 to $12), from templates that start at $13 or after $14.
--
-- Jobs whose time has already come are pending at once; returns these jobs and their lanes.

with template as materialized (
    select given.number, lane.id as lane, given.task,
           coalesce(given.expires_at, now() + given.expires_after) as expires_at,
           given.options::json, given.headers::json, given.key,
           case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end
               as tags,
           coalesce(given.run_at, now() + given.delay) as run_at
    from unnest($4::text[], $5::smallint[], $6::text[], $7::timestamptz[], $8::interval[], $9::text[],
                $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::interval[])
         with ordinality
         as given (queue, priority, task, expires_at, expires_after, options, headers, tags, key,
                   run_at, delay, number)
    left join pgqueue.lane
        on lane.queue = given.queue and lane.priority = given.priority and lane.task = ''
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key, run_at)
    select given.id, template.lane, template.task, given.arguments, template.expires_at,
           template.options, template.headers, template.tags, template.key, template.run_at
    from rows from (
             unnest($1::text::uuid[]), json_array_elements($2::text::json), unnest($3::integer[])
         ) as given (id, arguments, number)
    join template on template.number = coalesce(given.number, 1)
    returning id, lane, run_at
),
waiting as (
    insert into pgqueue.scheduled (job_id, scheduled_at, lane)
    select id, run_at, lane from added where run_at > now()
),
due as (
    insert into pgqueue.ready (job_id, lane)
    select id, lane from added where run_at <= now() order by id
    returning job_id, lane
)
select job_id as id, lane from due
