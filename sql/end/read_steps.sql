-- read_steps: the results of the steps of job $1, and their places.

select name, result::text, number, kind, call
from pgqueue.step
where job_id = $1
