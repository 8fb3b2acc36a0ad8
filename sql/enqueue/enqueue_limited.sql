-- enqueue_limited: add jobs with ids $1 and arguments $2, each from the template numbered $3 of those with queues $4,
-- priorities $5, tasks $6, expiries at $7 or after $8, options $9, headers $10, tags $11, keys $12 and lanes $13, as
-- `enqueue` does, and with the limits numbered $15 (null: all the first) of those in the JSON array $14, whose first gates
-- are $16.
--
-- Limits are written as PostgreSQL writes an array of names and keys in turn; gates are named as key_id names them. The
-- jobs wait, blocked, for the first of their limits, in the order in which they are given.
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
combination as materialized (
    select given.gates::text[] as gates, given.gate, given.number
    from rows from (
             pg_catalog.json_array_elements_text($14::text::json), pg_catalog.unnest($16::text::uuid[])
         ) with ordinality
         as given (gates, gate, number)
),
given as materialized (
    select call.id, call.arguments, template.lane, template.task, template.expires_at, template.options, template.headers,
           template.tags, template.key, combination.gates, combination.gate,
           case when pg_catalog.cardinality(combination.gates) = 2 then true end as single,
           pg_catalog.starts_with(combination.gates[1], 'order/') as is_ordered,
           pg_catalog.nextval('pgqueue.position') as turn
    from rows from (
             pg_catalog.unnest($1::text::uuid[]), pg_catalog.json_array_elements($2::text::json),
             pg_catalog.unnest($3::text::integer[]), pg_catalog.unnest($15::text::integer[])
         ) with ordinality as call (id, arguments, number, combination, place)
    join template on template.number = coalesce(call.number, 1)
    join combination on combination.number = coalesce(call.combination, 1)
    order by call.place
),
added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key, hooks, gates, turn)
    select id, lane, task, arguments, expires_at, options, headers, tags, key,
           case when is_ordered then 36 else 4 end, gates, case when is_ordered then turn end
    from given
),
waiting as (
    insert into pgqueue.blocked (job_id, lane, gated, gate, turn, single)
    select id, lane, true, gate, turn, single from given
),
fresh as (
    insert into pgqueue.note (node_id, kind, lane, low)
    select gate, 'gate', lane, pg_catalog.min(turn) from given group by gate, lane returning id
)
select pg_catalog.to_json(array(select id from fresh))::text
