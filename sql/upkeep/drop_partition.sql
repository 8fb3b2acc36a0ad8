-- drop_partition: drop the day partition $1, of ids from $2 to before $3, if no job in it is live.
--
-- False: one is, or there are statements under way that would have to be waited for.

select pgqueue.drop_partition($1, $2, $3)
