-- renew_lease: extend lease $1 by $2 from now, and store its event-loop lag $3 in seconds, its $4 abandoned threads and
-- its memory $5 in bytes.
--
-- No row back: it is gone, or its rescue has begun (`beside` is noted by then), and its jobs may be running elsewhere.
-- One that expired, and that nobody has begun to rescue, still holds its jobs: the server was away for as long, or its
-- clock was set forward.

update pgqueue.lease
set renewed_at        = now(),
    expires_at        = now() + $2::interval,
    loop_lag          = $3,
    abandoned_threads = $4,
    memory            = $5
where id = $1
  and (expires_at > now() or beside is null)
returning id
