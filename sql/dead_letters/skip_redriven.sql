-- skip_redriven: have mass redrive $1 leave its next dead letter out. Returns the job, which stays failed.
--
-- No row back: the redrive has none, or a rate that cannot be computed with.

update pgqueue.mass_redrive
set reached_at = letter.failed_at, reached_id = letter.job_id, carried_at = now()
from (
    select found.failed_at, found.job_id
    from pgqueue.mass_redrive as this
    cross join lateral pgqueue.find_dead_letters(this.filter, this.reached_at, this.reached_id, false, 1) as found
    where this.id = $1
) as letter
where mass_redrive.id = $1
  and mass_redrive.rate between 1e-6 and 1e9
returning letter.job_id
