-- submit_workflow: write workflow $1, or a part of it: nodes $2, of which the first are jobs with arguments $3 from
-- templates $6 numbered $4 with traits $5; barriers $7; edges from $8 to the nodes at $9, at positions $10, direct ones
-- $11; callbacks $12.
--
-- One statement, in the caller's transaction if there is one. Everything is sent as strings: see enqueue.

select pgqueue.write_workflow(
    $1::text::json, $2::text::uuid[], $3::text::json, $4::text::int4[], $5::text::int4[], $6::text::json,
    $7::text::json, $8::text::uuid[], $9::text::int4[], $10::text::int4[], $11::text::bool[], $12::text::json
)::text as settled
