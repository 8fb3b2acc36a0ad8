-- enqueue: add jobs with ids $1 and arguments $2, each from the template numbered $3 (null: all from the first) of
-- those with queues $4, priorities $5, tasks $6, expiries at $7 or after $8, options $9, headers $10, tags $11 and
-- keys $12.
--
-- $1 is a string like {ID,ID,...} and $2 a JSON array, because the client's driver takes several times as long for
-- lists of ids and strings. JSON is sent as a string, because the connection may be the caller's, with its own
-- codecs. Template columns in which all values are null are sent as null.
--
-- A missing lane raises a not-null violation, and an existing id a unique violation. Then nothing was written, and
-- the caller makes the lane, or looks the id up, and calls again. (`on conflict do nothing` would cost every insert
-- a second index probe and a WAL record.)

with template as materialized (
    select given.number, lane.id as lane, given.task,
           coalesce(given.expires_at, now() + given.expires_after) as expires_at,
           given.options::json, given.headers::json, given.key,
           case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end
               as tags
    from unnest($4::text[], $5::smallint[], $6::text[], $7::timestamptz[], $8::interval[], $9::text[],
                $10::text[], $11::text[], $12::text[])
         with ordinality
         as given (queue, priority, task, expires_at, expires_after, options, headers, tags, key, number)
    left join pgqueue.lane
        on lane.queue = given.queue and lane.priority = given.priority and lane.task = ''
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key)
    select given.id, template.lane, template.task, given.arguments, template.expires_at,
           template.options, template.headers, template.tags, template.key
    from rows from (
             unnest($1::text::uuid[]), json_array_elements($2::text::json), unnest($3::integer[])
         ) as given (id, arguments, number)
    join template on template.number = coalesce(given.number, 1)
    returning id, lane
)
insert into pgqueue.ready (job_id, lane)
select id, lane from added order by id
