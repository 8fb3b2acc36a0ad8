-- carry_redrive: carry one mass redrive on by what is due, $1 jobs at most.
--
-- Returns how many jobs are ready now and in which lanes; no row: nothing is due, or others are at it.

select moved, lanes from pgqueue.carry_redrive($1)
