-- set_schedule_aside: note error $2 of the schedule named $1, and look at it again after a pause that grows.

update pgqueue.schedule
set error = $2, failures = least(greatest(failures, 0), 1000000) + 1,
    due_at = now() + make_interval(secs => least(60, 2 ^ (least(greatest(failures, 0), 6) + 1)))
where name = $1
