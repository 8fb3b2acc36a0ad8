-- record_step: store the result $4 of step $3 of job $1, which runs under lease $2.
--
-- No row back: the lease was lost, and nothing is stored. Otherwise the result that counts: the one that
-- was stored first. The share lock keeps a rescuer from passing by while this is not yet committed.

with holder as materialized (
    select job_id from pgqueue.running where job_id = $1 and lease_id = $2 for key share
)
insert into pgqueue.step (job_id, name, result)
select job_id, $3, $4::json from holder
on conflict (job_id, name) do update set name = excluded.name
returning result::text
