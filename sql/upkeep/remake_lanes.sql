-- remake_lanes: make the lanes that jobs $1 name and that there are not; returns their ids.
--
-- Their queues are not known any more, so they are named after the lanes. No worker serves such a queue.

with missing as (
    select job.lane as id from pgqueue.job where job.id = any($1::uuid[])
    union select lane from pgqueue.ready where job_id = any($1::uuid[])
    union select lane from pgqueue.running where job_id = any($1::uuid[])
    union select lane from pgqueue.scheduled where job_id = any($1::uuid[])
    union select lane from pgqueue.blocked where job_id = any($1::uuid[])
)
insert into pgqueue.lane (id, queue, priority) overriding system value
select id, 'lost lane ' || id, 0 from missing
where not exists (select from pgqueue.lane where lane.id = missing.id)
on conflict do nothing
returning id
