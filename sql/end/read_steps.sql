-- read_steps: the results of the steps of job $1.

select name, result::text
from pgqueue.step
where job_id = $1
