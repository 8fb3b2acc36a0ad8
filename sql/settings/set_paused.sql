-- set_paused: pause (if $3 is true) or resume the queue or task (kind $1) named $2, for actor $4 and reason $5.
--
-- False: it is already so.

select pgqueue.set_paused($1, $2, $3, $4, $5)
