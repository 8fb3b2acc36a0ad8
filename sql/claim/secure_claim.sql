-- secure_claim: make the claim of job $1 by lease $2 survive a crash of the server.
--
-- Sent where commits wait for the disk, so that all earlier commits, the claim among them, are on disk as well.
-- No row back: the lease no longer holds the job, or the claim is lost already.

update pgqueue.running
set claimed_at = claimed_at
where job_id = $1
  and lease_id = $2
returning job_id
