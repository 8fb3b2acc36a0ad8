-- pause_workflow: pause workflow $1 if $2, otherwise let it go on, for reason $3, as actor $4.
--
-- Returns lanes with new ready jobs; null: there is no such workflow.

select pgqueue.pause_workflow($1, $2, $3, $4)
