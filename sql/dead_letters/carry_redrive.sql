-- carry_redrive: carry one mass redrive on by what is due, $1 jobs at most.
--
-- Returns the lanes of those that are ready now, and the position that they are behind; no row: nothing is due, or
-- others are at it. The position is read first, because the function is given nothing before.

select carried.lanes, before.position
from (select coalesce(pg_sequence_last_value('pgqueue.position'), 0) as position) as before
cross join lateral pgqueue.carry_redrive(case when before.position is not null then $1::integer end) as carried
