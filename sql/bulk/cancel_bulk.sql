-- cancel_bulk: stop bulk operation $1; no row: it had already ended.

update pgqueue.bulk
set state = 'cancelled', ended_at = now()
where id = $1
  and state = 'running'
returning id
