-- cancel_redrive: stop mass redrive $1; no row: it had already ended.

update pgqueue.mass_redrive
set state = 'cancelled', ended_at = now()
where id = $1
  and state = 'running'
returning id
