-- read_actions: the actions of operators on job $1, oldest first.

select at, action, attempt, reason, actor
from pgqueue.action
where job_id = $1
order by id
