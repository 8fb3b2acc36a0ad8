-- submit_workflow: write workflow $1: jobs $2 with arguments $3 from templates $6 numbered $4, those of $5 taking
-- inputs; barriers $7; edges from $8 to $9 at positions $10, direct ones $11; callbacks $12.
--
-- One statement, in the caller's transaction if there is one. Everything is sent as strings: see enqueue.

select pgqueue.submit_workflow(
    $1::pg_catalog.text::pg_catalog.json, $2::pg_catalog.text::pg_catalog.uuid[], $3::pg_catalog.text::pg_catalog.json, $4::pg_catalog.text::pg_catalog.int4[], $5::pg_catalog.text::pg_catalog.uuid[], $6::pg_catalog.text::pg_catalog.json,
    $7::pg_catalog.text::pg_catalog.json, $8::pg_catalog.text::pg_catalog.uuid[], $9::pg_catalog.text::pg_catalog.uuid[], $10::pg_catalog.text::pg_catalog.int4[], $11::pg_catalog.text::pg_catalog.bool[], $12::pg_catalog.text::pg_catalog.json
)::pg_catalog.text as settled
