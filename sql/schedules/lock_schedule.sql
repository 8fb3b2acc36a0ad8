-- lock_schedule: lock the schedule named $1, and read it.

select schedule.*, schedule.arguments::text as arguments_text, schedule.template::text as template_text,
       clock_timestamp() as taken_at
from pgqueue.schedule
where name = $1
for update
