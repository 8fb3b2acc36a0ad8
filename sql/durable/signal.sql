-- signal: send job $1 the event $2 with payload $3, known by $4; if $5, in a transaction that goes on.
--
-- Returns what became of it, and the lane in which the job is pending now. Strings and full names: see enqueue.

select answer::text, in_lane::text
from pgqueue.signal($1::text::uuid, $2::text, $3::text::json, $4::text, $5::text::bool)
