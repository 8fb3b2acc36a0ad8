-- list_ended: the jobs that have ended since $1, in the order in which they did.

select id from pgqueue.job where completed_at >= $1 order by completed_at, id
