-- list_stopped: up to $2 keys that stand still, of ordered group $1 (null: of any), behind group $3 and key $4: for each
-- the job that stops it first, and how many wait, counting to $5.

with key as materialized (
    select distinct on (stopped.rule, stopped.key)
           stopped.rule, stopped.key, stopped.gate, stopped.job_id, stopped.stopped_at,
           exists (
               select from pgqueue.stopped as other where other.gate = stopped.gate and other.halts) as is_halted
    from pgqueue.stopped
    where ($1::text is null or stopped.rule = $1) and ($3::text is null or (stopped.rule, stopped.key) > ($3, $4::text))
    order by stopped.rule, stopped.key, stopped.turn
    limit $2
)
select pg_catalog.substr(key.rule, 7) as name, key.key, key.job_id, key.is_halted, key.stopped_at,
       (select job.task from pgqueue.job where job.id = key.job_id) as task,
       pgqueue.status_of(key.job_id)::text as status,
       (select job.reason from pgqueue.job where job.id = key.job_id) as reason,
       (select count(*) from (
            select from pgqueue.blocked where blocked.gate = key.gate limit $5) as waits) as waiting
from key
order by key.rule, key.key
