-- note_bulk: bulk operation $1 has come to id $2, has found $3 jobs more, and has changed $4 of them; $5: it is done.

update pgqueue.bulk
set reached = coalesce($2, reached), found = found + $3, done = done + $4, carried_at = now(),
    state = case when $5::boolean then 'done' else state end, ended_at = case when $5 then now() end
where id = $1
  and state = 'running'
