-- enqueue_one: add the job with id $1, queue $2, priority $3, task $4, arguments $5, expiry at $6 or after $7,
-- options $8, headers $9, tags $10 and key $11.
--
-- Does for one job what enqueue does: taking its columns out of arrays and documents would take twice as long as
-- the inserts themselves. Strings and full names: see enqueue.

with added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key)
    values (
        $1::text::uuid,
        (select id from pgqueue.lane
         where queue = $2::text and priority = $3::text::smallint and task = '' and removed_at is null),
        $4::text,
        $5::text::json,
        coalesce($6::text::timestamptz, pg_catalog.now() + pg_catalog.make_interval(secs => $7::text::float8)),
        $8::text::json,
        $9::text::json,
        case when $10::text is not null
             then array(select pg_catalog.json_array_elements_text($10::text::json)) end,
        $11::text
    )
    returning id, lane
)
insert into pgqueue.ready (job_id, lane)
select id, lane from added
