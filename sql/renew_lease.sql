-- renew_lease: extend lease $1 by $2 from now.
--
-- No row back: it ran out, and its jobs may be running elsewhere. A lease that has run out is not
-- renewed even if nobody has noticed yet.

update pgqueue.lease
set renewed_at = now(),
    expires_at = now() + $2::interval
where id = $1
  and expires_at > now()
returning id
