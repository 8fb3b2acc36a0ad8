-- move_other_times: have $1 seconds pass for times that are stored as something else.
--
-- When a wait is over is the result of a step; and the counts of a window are numbered by the time.

with waits as (
    update pgqueue.step
    set result = to_json((result #>> '{}')::timestamptz - make_interval(secs => $1))
    where kind in ('sleep', 'event') and name like '%/until' and json_typeof(result) = 'string'
)
update pgqueue.limiter_state
set latest = latest - round($1 / width)::bigint
where width > 0
