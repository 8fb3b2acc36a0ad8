-- put_aside: give jobs $2 of lease $1 back, in the lanes of their tasks $3: for workers that know them.
--
-- They keep their positions and spend no attempt. The lanes have been made by make_lanes.
-- Returns the jobs that were still this lease's, and their lanes.

with ended as (
    delete from pgqueue.running
    where job_id = any($2::uuid[])
      and lease_id = $1
    returning job_id, ready_at, position, lane, attempt, losses
)
insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
select ended.job_id, ended.ready_at, ended.position, aside.id, ended.attempt - 1, ended.losses
from ended
join unnest($2::uuid[], $3::text[]) as unknown (job_id, task) on unknown.job_id = ended.job_id
join pgqueue.lane as had on had.id = ended.lane
join pgqueue.lane as aside on aside.queue = had.queue and aside.priority = had.priority and aside.task = unknown.task
returning job_id as id, lane
