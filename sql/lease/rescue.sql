-- rescue: rescue up to $2 jobs, except $4, of the expired lease $1, each at its old position; a job that was lost
-- more often than its task allows (default $3), while it ran alone, has failed; a job with a cancel request is
-- cancelled.
--
-- A loss beside others counts for nobody, because nobody knows whose fault it was; a job that allows no loss fails all
-- the same, because it must not run again. note_loss has noted who was alone.
-- The caller holds the lock on the lease. A loss is counted separately, and the attempt does not count. A prefetched
-- job that was not started has lost nothing. Returns the jobs with their new statuses and lanes. A function, because
-- who receives jobs rescues those of receipts that have run out.

select id, task, lane, status, attempt, was_running, queue, settled from pgqueue.rescue($1, $2, $3, $4::uuid[])
