-- read_schedules: the schedules named $1 (null: all) after name $2, at most $3, by name.

select schedule.*, schedule.arguments::text as arguments_text, schedule.template::text as template_text,
       declared is not null and declared_at < now() - interval '5 minutes' as is_orphaned, now() as taken_at
from pgqueue.schedule
where ($1::text[] is null or name = any($1)) and name > $2
order by name
limit $3
