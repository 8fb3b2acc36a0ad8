-- hold_suspects: hold the claimed jobs $2 of lease $1 as prefetched ones: they have not started after all.
--
-- If the worker is lost meanwhile, they have lost nothing, and an idle worker may take them over. Returns the jobs
-- that this lease still held.

update pgqueue.running
set started_at = null, attempt = attempt - 1
where job_id = any($2::uuid[])
  and lease_id = $1
  and started_at is not null
returning job_id
