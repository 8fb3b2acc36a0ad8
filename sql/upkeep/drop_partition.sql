-- drop_partition: drop the daily partition $1, with ids from $2 to before $3, if no job in it is live.
--
-- False: a job is live, or the drop would have to wait for statements in progress.

select pgqueue.drop_partition($1, $2, $3)
