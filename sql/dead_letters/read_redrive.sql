-- read_redrive: how far mass redrive $1 has come.

select id, state, total, done, rate, queue, reason, actor, created_at, ended_at
from pgqueue.mass_redrive
where id = $1
