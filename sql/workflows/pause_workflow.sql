-- pause_workflow: pause workflow $1 if $2, otherwise let it go on. Returns lanes with new ready jobs; null: there is none.

select pgqueue.pause_workflow($1, $2)
