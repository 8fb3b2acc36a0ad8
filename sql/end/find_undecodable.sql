-- find_undecodable: for how many seconds each of jobs $1 has been met as one that no worker could decode.
--
-- Counted from the first such attempt since it was decoded last, in its present life: retries, snoozes and the time
-- before it was redriven are not among them. One that was not met before has no row.

select met.job_id as id, date_part('epoch', now() - min(met.started_at)) as waited
from unnest($1::uuid[]) as wanted (job_id)
join pgqueue.job on job.id = wanted.job_id
join pgqueue.attempt as met on met.job_id = wanted.job_id
where job.id = any($1::uuid[])
  and met.job_id = any($1::uuid[])
  and met.reason = 'undecodable'
  and isfinite(met.started_at)
  and met.started_at between job.started_at and now()
  and met.id > coalesce(
      (
          select decoded.id
          from pgqueue.attempt as decoded
          where decoded.job_id = wanted.job_id
            and decoded.reason <> all(array['undecodable', 'released', 'lost', 'paused', 'unknown_task'])
          order by decoded.id desc
          limit 1
      ),
      0
  )
group by met.job_id
