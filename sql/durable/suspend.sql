-- suspend: have jobs $2 of lease $1 wait until times $3, for events $4, or for the nodes in the JSON lists $5.
--
-- Returns the jobs that this lease still held, and lanes with new ready jobs: what some waited for was there already.

select suspended, lanes from pgqueue.suspend($1, $2::uuid[], $3::timestamptz[], $4::text[], $5::text::json)
