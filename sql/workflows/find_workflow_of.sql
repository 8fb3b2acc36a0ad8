-- find_workflow_of: the workflow that job $1 belongs to; null: to none.

select workflow_id from pgqueue.job where id = $1
