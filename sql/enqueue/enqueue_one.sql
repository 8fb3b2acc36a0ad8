-- enqueue_one: add the job with id $1, queue $2, priority $3, task $4, arguments $5, expiry at $6 or after $7,
-- options $8, headers $9, tags $10 and key $11.
--
-- Does for one job what enqueue does: taking its columns out of arrays and documents would take twice as long as
-- the inserts themselves. Id and JSON are sent as strings, because the connection may be the caller's, with its own
-- codecs.

with added as (
    insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key)
    values (
        $1::text::uuid,
        (select id from pgqueue.lane where queue = $2 and priority = $3 and task = ''),
        $4,
        $5::text::json,
        coalesce($6::timestamptz, now() + $7::interval),
        $8::text::json,
        $9::text::json,
        case when $10::text is not null then array(select json_array_elements_text($10::text::json)) end,
        $11
    )
    returning id, lane
)
insert into pgqueue.ready (job_id, lane)
select id, lane from added
