-- suspend: have jobs $2 of lease $1 wait until times $3, for events $4, or for the nodes in the JSON lists $5.
--
-- Returns the jobs that this lease still held, and lanes with new ready jobs: what some waited for was there already;
-- and whether any of them has limits, to which it may have given something back.

select suspended, lanes,
       exists (select from pgqueue.job where job.id = any($2::uuid[]) and job.hooks & 4 > 0) as are_limited
from pgqueue.suspend($1, $2::uuid[], $3::timestamptz[], $4::text[], $5::text::json)
