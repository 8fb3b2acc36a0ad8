-- enqueue_one_limited: add the job with id $1, queue $2, priority $3, task $4, arguments $5, expiry at $6 or after $7,
-- options $8, headers $9, tags $10 and key $11, and with the limits $12, whose first gate is $13.
--
-- Does for one job what enqueue_limited does, as enqueue_one does what enqueue does; the statements for many take twice
-- as long. Returns the note that is to be attended to, as JSON.

with added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key, hooks, gates, turn)
    select $1::text::uuid,
           (select id from pgqueue.lane
            where queue = $2::text and priority = $3::text::smallint and task = '' and removed_at is null),
           $4::text,
           $5::text::json,
           coalesce($6::text::timestamptz, pg_catalog.now() + pg_catalog.make_interval(secs => $7::text::float8)),
           $8::text::json,
           $9::text::json,
           case when $10::text is not null
                then array(select pg_catalog.json_array_elements_text($10::text::json)) end,
           $11::text,
           case when given.is_ordered then 36 else 4 end,
           $12::text::text[],
           case when given.is_ordered then pg_catalog.nextval('pgqueue.position') end
    from (select pg_catalog.starts_with(($12::text::text[])[1], 'order/') as is_ordered) as given
    returning id, lane, gates, coalesce(turn, pg_catalog.nextval('pgqueue.position')) as turn
),
waiting as (
    insert into pgqueue.blocked (job_id, lane, gated, gate, turn, single)
    select id, lane, true, $13::text::uuid, turn, case when pg_catalog.cardinality(gates) = 2 then true end from added
    returning gate, lane, turn
),
fresh as (
    insert into pgqueue.note (node_id, kind, lane, low) select gate, 'gate', lane, turn from waiting returning id
)
select pg_catalog.to_json(array(select id from fresh))::text
