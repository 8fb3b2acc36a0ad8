-- enqueue_alike: add jobs as enqueue does ($1 to $13), all with the limits $14, of which none is an ordered group, and whose
-- first gate is $15: as enqueue_limited does, which costs the server a sixth more.
--
-- Returns the notes that are to be attended to, as JSON.

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
limits as materialized (
    select $14::text::text[] as gates, $15::text::uuid as gate, pg_catalog.nextval('pgqueue.position') as low
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key, hooks, gates)
    select given.id, template.lane, template.task, given.arguments, template.expires_at,
           template.options, template.headers, template.tags, template.key, 4, (select gates from limits)
    from rows from (
             pg_catalog.unnest($1::text::uuid[]), pg_catalog.json_array_elements($2::text::json),
             pg_catalog.unnest($3::text::integer[])
         ) as given (id, arguments, number)
    join template on template.number = coalesce(given.number, 1)
    returning id, lane
),
waiting as (
    insert into pgqueue.blocked (job_id, lane, gated, gate, turn, single)
    select id, lane, true, (select gate from limits), pg_catalog.nextval('pgqueue.position'),
           (select case when pg_catalog.cardinality(gates) = 2 then true end from limits)
    from added
    -- Before any turn is given.
    where (select low from limits) is not null
    order by id
),
fresh as (
    insert into pgqueue.note (node_id, kind, lane, low)
    select limits.gate, 'gate', given.lane, limits.low
    from limits cross join (select distinct lane from added) as given
    returning id
)
select pg_catalog.to_json(array(select id from fresh))::text
