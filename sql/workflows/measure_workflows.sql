-- measure_workflows: how many workflows have ended as what, and how the open ones are.
--
-- Read from indexes of what is open; what has ended costs nothing. Returns statuses and how often one of them was
-- reached; how many are open and how many of these are paused, the age of the oldest one that is not; how many stand
-- still, and for how long the first of them; and how many jobs wait at a barrier.

select array(select status::text from pgqueue.workflow_tally order by status) as statuses,
       array(select ended from pgqueue.workflow_tally order by status) as ended,
       count(*) as live, count(paused_at) as paused,
       extract(epoch from now() - min(created_at) filter (where paused_at is null))::float8 as oldest_age,
       (select count(*) from pgqueue.workflow where stalled_at is not null) as stalled,
       extract(epoch from now() - (
           select min(stalled_at) from pgqueue.workflow where stalled_at is not null))::float8 as stalled_age,
       (select count(*) from pgqueue.barrier where state is null and not is_join) as barriers
from pgqueue.workflow
where outcome is null
