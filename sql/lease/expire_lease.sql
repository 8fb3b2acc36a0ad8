-- expire_lease: let lease $1 run out now, if it was not renewed since $2.

update pgqueue.lease
set expires_at = now()
where id = $1
  and renewed_at = $2
  and expires_at > now()
returning id
