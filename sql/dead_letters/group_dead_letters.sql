-- group_dead_letters: groups of dead letters by fingerprint, with task $1, reason $2 and error type $3 (null: any),
-- the latest failures first, $4 groups at most; counts stop at $5, and $6 fingerprints are examined.
--
-- Walks from fingerprint to fingerprint in the index, so the cost grows with the groups, and not with the dead
-- letters beyond the cap of a group.

with recursive found as (
    (select fingerprint, 1 as number from pgqueue.dead_letter order by fingerprint limit 1)
    union all
    select (select following.fingerprint from pgqueue.dead_letter as following
            where following.fingerprint > found.fingerprint order by following.fingerprint limit 1),
           number + 1
    from found
    where found.fingerprint is not null and number < $6
)
select last.job_id, last.failed_at, last.task, last.queue, last.reason, last.fingerprint, last.error_type,
       last.message, last.attempt, last.worker, last.version, first.failed_at as first_at, counted.count
from found
cross join lateral (
    select letter.job_id, letter.failed_at, letter.task, letter.queue, letter.reason, letter.fingerprint,
           letter.error_type, letter.message, letter.attempt, letter.worker, letter.version
    from pgqueue.dead_letter as letter
    where letter.fingerprint = found.fingerprint order by letter.failed_at desc, letter.job_id desc limit 1
) as last
cross join lateral (
    select letter.failed_at from pgqueue.dead_letter as letter
    where letter.fingerprint = found.fingerprint order by letter.failed_at, letter.job_id limit 1
) as first
cross join lateral (
    select count(*) as count from (
        select from pgqueue.dead_letter as letter where letter.fingerprint = found.fingerprint limit $5
    ) as capped
) as counted
where ($1::text is null or last.task = $1)
  and ($2::text is null or last.reason = $2)
  and ($3::text is null or last.error_type = $3)
order by last.failed_at desc
limit $4
