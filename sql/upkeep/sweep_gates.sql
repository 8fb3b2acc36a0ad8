-- sweep_gates: look at up to $2 gates behind $1: what is held by none, who waits, and what nothing uses any more; before
-- the first, at what is held in paused queues.
--
-- Returns the last gate looked at; null: there are no more.

select pgqueue.sweep_gates($1, $2)
from (
    -- Put there since the pause: by a worker that stopped, or for one that was lost.
    select case when $1 = '00000000-0000-0000-0000-000000000000'::uuid then pgqueue.return_to_gates() end
    offset 0
) as paused
