-- reset_limit: make limit $1 what code declared of it; $2 asked for it, because of $3.
--
-- Null: there is no such limit. False: no operator has changed it.

select pgqueue.reset_limit($1, $2, $3)
