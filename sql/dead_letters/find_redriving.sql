-- find_redriving: the mass redrive that is carried on next.

select id from pgqueue.mass_redrive
where state = 'running' and carried_at <= now() - interval '1 second'
order by carried_at
limit 1
