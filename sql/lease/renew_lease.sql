-- renew_lease: extend lease $1 by $2 from now, and store its event-loop lag $3 in seconds and its $4 abandoned threads.
--
-- No row back: it has expired, and its jobs may be running elsewhere. An expired lease is not renewed, even if no
-- worker has noticed yet.

update pgqueue.lease
set renewed_at        = now(),
    expires_at        = now() + $2::interval,
    loop_lag          = $3,
    abandoned_threads = $4
where id = $1
  and expires_at > now()
returning id
