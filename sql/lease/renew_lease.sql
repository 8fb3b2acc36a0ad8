-- renew_lease: extend lease $1 by $2 from now, and note the seconds $3 that its event loop took to turn.
--
-- No row back: it ran out, and its jobs may be running elsewhere. A lease that has run out is not
-- renewed even if nobody has noticed yet.

update pgqueue.lease
set renewed_at = now(),
    expires_at = now() + $2::interval,
    loop_lag   = $3
where id = $1
  and expires_at > now()
returning id
