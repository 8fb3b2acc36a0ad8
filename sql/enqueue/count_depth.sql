-- count_depth: how many jobs in queue $1 are pending and unclaimed, counting to $2.

select pgqueue.count_depth($1, $2)
