-- watch_workflows: note which of the next $2 open workflows behind id $1 have ended, and which stand still.
--
-- Returns how many were looked at, and the last of them.

select looked, reached from pgqueue.watch_workflows($1, $2)
