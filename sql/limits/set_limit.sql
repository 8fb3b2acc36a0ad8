-- set_limit: have limit $1 let $2 jobs of each key run at once, null: any number; $3 asked for it, because of $4.

select pgqueue.set_limit($1, $2, $3, $4)
