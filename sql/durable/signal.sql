-- signal: send job $1 the event $2 with payload $3, known by $4; if $5, in a transaction that goes on.
--
-- Returns what became of it, and the lane in which the job is pending now.

select answer, in_lane from pgqueue.signal($1, $2, $3::text::json, $4, $5)
