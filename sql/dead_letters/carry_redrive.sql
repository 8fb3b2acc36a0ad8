-- carry_redrive: redrive the due part of one mass redrive, $1 jobs at most.
--
-- Returns the lanes of the jobs that are pending now, and a position before all of theirs. No row: nothing is
-- due, or another worker is at it. The position is read first, before the function assigns any.

select carried.lanes, before.position
from (select coalesce(pg_sequence_last_value('pgqueue.position'), 0) as position) as before
cross join lateral pgqueue.carry_redrive(case when before.position is not null then $1::integer end) as carried
