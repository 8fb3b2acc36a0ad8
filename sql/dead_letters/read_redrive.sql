-- read_redrive: the progress of mass redrive $1.

select id, state, total, done, rate, queue, reason, actor, created_at, ended_at
from pgqueue.mass_redrive
where id = $1
