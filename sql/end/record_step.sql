-- record_step: store the result $4 of step $3 of job $1, which is running under lease $2, at place $5 of kind $6 in
-- call $7.
--
-- No row back: the lease was lost, and nothing was stored. Otherwise returns the result that counts, which is the
-- one stored first. The share lock keeps a rescue from missing this before it is committed.

with holder as materialized (
    select job_id from pgqueue.running where job_id = $1 and lease_id = $2 for key share
)
insert into pgqueue.step (job_id, name, result, number, kind, call)
select job_id, $3, $4::json, $5, $6, $7 from holder
on conflict (job_id, name) do update set name = excluded.name
returning result::text
