-- finish: record that jobs $2, which lie between the ids $5 and $6, succeeded with results $3 under lease $1
-- at worker $4; if $7, what they held of limits goes on.
--
-- $2 is a string like {ID,ID,...}; $3 is a JSON array, or null if no results are stored: see enqueue. $2 is parsed
-- once, because parsing a hundred ids for each use cost a sixth of the statement. The bounds let the server skip
-- the partitions of other days, which saves another fifth.
-- Returns the jobs that this lease still held: how many, and which ones unless it is all of them, as text: on a new
-- connection of a handler's transaction, the driver would ask for the type of their list. The others were
-- fenced off and stay as they are. What waits for their ends is settled. What goes on of limits does so in the
-- same transaction, which has to end with this. Every table is reached by `= any(batch)`: see claim.

with batch as materialized (
    select $2::text::uuid[] as ids
),
ended as (
    delete from pgqueue.running
    where job_id = any((select ids from batch)::uuid[])
      and lease_id = $1                  -- no row back: the lease was lost
    returning job_id, started_at, attempt
),
finished as (
    update pgqueue.job
    set status       = 'succeeded',
        started_at   = coalesce(job.started_at, ended.started_at),
        -- Null for the first attempt, which takes no room then.
        last_started_at = case when job.started_at is not null then ended.started_at end,
        -- Not now(): this may be the end of a long transaction that the handler began.
        completed_at = greatest(statement_timestamp(), ended.started_at),
        attempt      = ended.attempt,
        worker       = $4,
        result       = outcome.result
    from ended
    join rows from (unnest((select ids from batch)), json_array_elements($3::text::json)) as outcome (job_id, result)
        on outcome.job_id = ended.job_id
    where job.id = ended.job_id
      and job.id = any((select ids from batch)::uuid[])
      and job.id between $5::text::uuid and $6::text::uuid
    returning job.id, job.hooks
)
select count(*) as count,
       case when count(hooks) > 0
            then case when $7
                 then pgqueue.settle_and_hand_over(array_agg(id) filter (where hooks is not null), bit_or(hooks))
                 else pgqueue.settle(array_agg(id) filter (where hooks is not null), bit_or(hooks)) end end::text as settled,
       case when count(*) < cardinality((select ids from batch)) then array_agg(id)::text[] end as ids
from finished
