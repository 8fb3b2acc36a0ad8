-- put_aside: return jobs $2 of lease $1 to the queue, in the lanes of their tasks $3.
--
-- Only workers that declare these tasks walk these lanes. The jobs keep their positions, and the attempt does not
-- count. make_lanes has made the lanes. Where these are paused, they give back what they hold of limits. Returns the
-- jobs that this lease still held, their lanes, and notes.

with ended as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
    returning job_id, ready_at, position, lane, attempt, losses
),
put as (
    insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
    select ended.job_id, ended.ready_at, ended.position, aside.id, ended.attempt - 1, ended.losses
    from ended
    join unnest($2::uuid[], $3::text[]) as unknown (job_id, task) on unknown.job_id = ended.job_id
    join pgqueue.lane as had on had.id = ended.lane
    join pgqueue.lane as aside on aside.queue = had.queue and aside.priority = had.priority and aside.task = unknown.task
    returning job_id, lane
)
select put.job_id as id, put.lane, gates.notes
from put
cross join (
    select case when exists (select from pgqueue.lane where lane.id = any(array(select lane from put)) and lane.paused)
                then pgqueue.return_to_gates(array(select job_id from put), (select count(*) from put)) end as notes
    offset 0
) as gates
