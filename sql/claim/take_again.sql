-- take_again: take for lease $1 the pending jobs $2 that run under it as attempts $3, lost $4 times before, since $5
-- seconds.
--
-- Claims do not wait for the disk, so a server that crashes forgets the last of them. A job that was moved by anything
-- else is another attempt by now, or was lost once more, or its lease is gone or being rescued. Its lane may be paused
-- meanwhile: it runs. Returns the jobs that were taken, are held as they were, or are held elsewhere by now.

with holder as materialized (
    select id from pgqueue.lease where id = $1 and (expires_at > now() or beside is null) for key share
),
given as materialized (
    select * from unnest($2::uuid[], $3::integer[], $4::integer[], $5::float8[])
        as given (job_id, attempt, losses, seconds)
),
chosen as materialized (
    select ready.job_id
    from pgqueue.ready
    where ready.job_id = any($2::uuid[])
      and exists (select from holder)
      and (ready.job_id, ready.attempt + 1, ready.losses) in (select job_id, attempt, losses from given)
    for update skip locked
),
taken as (
    delete from pgqueue.ready
    where job_id = any(array(select job_id from chosen))
    returning job_id, ready_at, position, lane, attempt, losses
),
claimed as (
    insert into pgqueue.running (job_id, lease_id, ready_at, started_at, position, lane, attempt, losses)
    select taken.job_id, $1, taken.ready_at, now() - make_interval(secs => given.seconds), taken.position, taken.lane,
           taken.attempt + 1, taken.losses
    from taken join given on given.job_id = taken.job_id
    returning job_id
)
select job_id, 'taken' as how from claimed
union all
select running.job_id, case when running.lease_id <> $1 then 'elsewhere' else 'held' end
from pgqueue.running join given on given.job_id = running.job_id
where running.job_id = any($2::uuid[])
  and (running.lease_id <> $1 or running.attempt = given.attempt and running.losses = given.losses)
