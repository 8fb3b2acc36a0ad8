-- enqueue: add jobs with ids $1 in lanes numbered $2 among queues $3 at priorities $4, of tasks $5
-- with arguments $6, expiring at $7 or after $8, with options $9, headers $10, tags $11 and keys $12.
--
-- The arrays are parallel; one that is null throughout is passed as null and costs nothing.
-- A lane that does not exist is a not-null violation, an id that exists a unique violation:
-- nothing is written, and the caller makes the lane or looks the id up and calls again.
-- JSON comes as text: the connection may be the caller's, with codecs of his own.
-- (`on conflict do nothing` would cost every insert a second index probe and a WAL record.)

with lanes as materialized (
    select array_agg(lane.id order by named.number) as ids
    from unnest($3::text[], $4::smallint[]) with ordinality as named (queue, priority, number)
    left join pgqueue.lane
        on lane.queue = named.queue and lane.priority = named.priority and lane.task = ''
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key)
    select given.id, lanes.ids[given.lane_number], given.task, given.arguments::json,
           coalesce(given.expires_at, now() + given.expires_after), given.options::json, given.headers::json,
           case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end,
           given.key
    from lanes,
         unnest($1::uuid[], $2::integer[], $5::text[], $6::text[], $7::timestamptz[], $8::interval[],
                $9::text[], $10::text[], $11::text[], $12::text[])
         as given (id, lane_number, task, arguments, expires_at, expires_after, options, headers, tags, key)
    returning id, lane
)
insert into pgqueue.ready (job_id, lane)
select id, lane from added
