-- schedule: add jobs as enqueue does ($1 to $12) that run at $13 or after $14.
--
-- A time that has come by now is ready at once, in the order of its id. Returns the lanes that
-- got ready jobs.

with lanes as materialized (
    select array_agg(lane.id order by named.number) as ids
    from unnest($3::text[], $4::smallint[]) with ordinality as named (queue, priority, number)
    left join pgqueue.lane
        on lane.queue = named.queue and lane.priority = named.priority and lane.task = ''
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key, run_at)
    select given.id, lanes.ids[given.lane_number], given.task, given.arguments::json,
           coalesce(given.expires_at, now() + given.expires_after), given.options::json, given.headers::json,
           case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end,
           given.key, coalesce(given.run_at, now() + given.delay)
    from lanes,
         unnest($1::uuid[], $2::integer[], $5::text[], $6::text[], $7::timestamptz[], $8::interval[],
                $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::interval[])
         as given (id, lane_number, task, arguments, expires_at, expires_after, options, headers, tags, key,
                   run_at, delay)
    returning id, lane, run_at
),
waiting as (
    insert into pgqueue.scheduled (job_id, scheduled_at, lane)
    select id, run_at, lane from added where run_at > now()
),
due as (
    insert into pgqueue.ready (job_id, lane)
    select id, lane from added where run_at <= now() order by id
    returning lane
)
select distinct lane from due
