-- find_bulk: the bulk operation that is carried on next.

select id from pgqueue.bulk
where state = 'running'
order by carried_at, id
limit 1
