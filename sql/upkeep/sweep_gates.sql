-- sweep_gates: look at up to $2 gates behind $1: what is held by none, who waits, and what nothing uses any more.
--
-- Returns the last gate looked at; null: there are no more.

select pgqueue.sweep_gates($1, $2)
