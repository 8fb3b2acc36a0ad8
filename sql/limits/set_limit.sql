-- set_limit: have limit $1 let $2 jobs of each key run at once, or $5 start per second with burst $6; without both any
-- number; $3 asked for it, because of $4.

select pgqueue.set_limit($1, $2, $3, $4, $5, $6)
