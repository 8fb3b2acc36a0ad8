-- take_due: lock up to $1 schedules that are due, except those named $2, and without cron where $3 is false.

select schedule.*, schedule.arguments::text as arguments_text, schedule.template::text as template_text, now() as taken_at
from pgqueue.schedule
where paused_at is null and due_at <= now() and not name = any($2::text[]) and ($3 or cron is null)
order by due_at
limit $1
for update skip locked
