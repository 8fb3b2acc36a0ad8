-- sweep_limiters: look at up to $2 limiters behind $1 for holds of attempts that are over, and remove idle ones.
--
-- Returns the last one looked at; null: there are no more.

select pgqueue.sweep_limiters($1, $2)
