-- expire_lease: expire lease $1 now, unless it was renewed after $2.

update pgqueue.lease
set expires_at = now()
where id = $1
  and renewed_at = $2
  and expires_at > now()
returning id
