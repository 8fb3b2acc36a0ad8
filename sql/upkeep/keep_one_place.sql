-- keep_one_place: have each of jobs $1 stand in one place: the first of running, ready, scheduled and blocked. A job
-- that has ended, or of which there is no record, stands nowhere.
--
-- A job goes from place to place within one statement, so a snapshot that has it in two has found a fault. Returns
-- the jobs that lost a place.

with seen as materialized (
    select given.id,
           coalesce((select job.status is null from pgqueue.job where job.id = given.id), false) as is_live,
           exists (select from pgqueue.running where running.job_id = given.id) as is_running,
           exists (select from pgqueue.ready where ready.job_id = given.id) as is_ready,
           exists (select from pgqueue.scheduled where scheduled.job_id = given.id) as is_scheduled
    from unnest($1::uuid[]) as given (id)
    -- What row-level security hides is not missing.
    where not exists (
        select from pg_class
        where oid = any(array['pgqueue.job', 'pgqueue.running', 'pgqueue.ready', 'pgqueue.scheduled']::regclass[])
          and relrowsecurity and row_security_active(oid)
    )
),
from_running as (
    delete from pgqueue.running
    where job_id = any(array(select id from seen where not is_live))
    returning job_id
),
from_ready as (
    delete from pgqueue.ready
    where job_id = any(array(select id from seen where not is_live or is_running))
    returning job_id
),
from_scheduled as (
    delete from pgqueue.scheduled
    where job_id = any(array(select id from seen where not is_live or is_running or is_ready))
    returning job_id
),
from_blocked as (
    delete from pgqueue.blocked
    where job_id = any(array(select id from seen where not is_live or is_running or is_ready or is_scheduled))
    returning job_id
),
lost as materialized (
    select job_id from from_running
    union select job_id from from_ready
    union select job_id from from_scheduled
    union select job_id from from_blocked
)
select lost.job_id
from lost
-- Where a limited job is left, it goes on by its limits.
cross join (
    select pgqueue.gate_in(array(select job_id from lost), (select count(*) from lost)) as notes offset 0
) as gates
