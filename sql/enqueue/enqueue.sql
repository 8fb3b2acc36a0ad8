-- enqueue: add jobs with ids $1 and arguments $2, each from the template numbered $3 (null: all from the first) of
-- those with queues $4, priorities $5, tasks $6, expiries at $7 or after $8, options $9, headers $10, tags $11,
-- keys $12 and, where this transaction cannot see them, lanes $13.
--
-- $1 is a string like {ID,ID,...} and $2 a JSON array, because the client's driver takes several times as long for
-- lists of ids and strings. Everything is sent as strings, and functions are named in full, because the connection
-- may be the caller's, with its own codecs and search_path. Template columns in which all values are null are sent as
-- null.
--
-- A missing or removed lane raises a not-null violation, and an existing id a unique violation. Then nothing was written, and
-- the caller makes the lane, or looks the id up, and calls again. (`on conflict do nothing` would cost every insert
-- a second index probe and a WAL record.)

with template as materialized (
    select given.number, coalesce(lane.id, given.lane) as lane, given.task,
           coalesce(
               given.expires_at,
               pg_catalog.now() + pg_catalog.make_interval(secs => given.expires_after)) as expires_at,
           given.options::json, given.headers::json, given.key,
           case when given.tags is not null
                then array(select pg_catalog.json_array_elements_text(given.tags::json)) end as tags
    from rows from (
             pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]::smallint[]),
             pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[]::timestamptz[]),
             pg_catalog.unnest($8::text[]::float8[]), pg_catalog.unnest($9::text[]),
             pg_catalog.unnest($10::text[]), pg_catalog.unnest($11::text[]), pg_catalog.unnest($12::text[]),
             pg_catalog.unnest($13::text[]::integer[])
         ) with ordinality
         as given (queue, priority, task, expires_at, expires_after, options, headers, tags, key, lane, number)
    left join pgqueue.lane
        on lane.queue = given.queue and lane.priority = given.priority and lane.task = '' and lane.removed_at is null
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key)
    select given.id, template.lane, template.task, given.arguments, template.expires_at,
           template.options, template.headers, template.tags, template.key
    from rows from (
             pg_catalog.unnest($1::text::uuid[]), pg_catalog.json_array_elements($2::text::json),
             pg_catalog.unnest($3::text::integer[])
         ) as given (id, arguments, number)
    join template on template.number = coalesce(given.number, 1)
    returning id, lane
)
insert into pgqueue.ready (job_id, lane)
select id, lane from added order by id
