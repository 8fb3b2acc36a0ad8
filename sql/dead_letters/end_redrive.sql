-- end_redrive: end mass redrive $1, which cannot be carried on.

update pgqueue.mass_redrive
set state = 'cancelled', ended_at = now()
where id = $1
  and state = 'running'
