-- mark_processed: record event $2 of source $1 for $3 seconds, with marker $4; false: it was recorded before.

select pgqueue.mark_processed(
    $1::text, $2::text, pg_catalog.make_interval(secs => $3::text::float8), $4::text::uuid)::text
