-- read_ticks: the latest $2 ticks of schedule $1, newest first.

select at, job_id, outcome, recorded_at, actor, reason from pgqueue.tick where schedule = $1 order by at desc limit $2
