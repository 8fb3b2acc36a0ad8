-- adopt_workflow: have workflow $1 be cancelled with job $2, which starts it.

with told as (
    update pgqueue.job set hooks = coalesce(hooks, 0) | 16 where id = $2
)
update pgqueue.workflow set ends_with_parent = true where id = $1
