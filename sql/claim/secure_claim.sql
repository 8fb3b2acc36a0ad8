-- secure_claim: have the claim of job $1 by lease $2 outlive a crash of the server.
--
-- Sent where commits wait for the disk: what was committed before goes there too, the claim among it. No row:
-- the job is not this lease's any more, or the claim is forgotten already.

update pgqueue.running
set claimed_at = claimed_at
where job_id = $1
  and lease_id = $2
returning job_id
