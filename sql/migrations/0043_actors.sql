-- 0043 actors: the history of a schedule says who had it run, and who deleted it.
-- works with: 1
-- Workers may keep running.

alter table pgqueue.tick add actor text, add reason text;

-- What is left of a deleted schedule is the row that says so; it goes when another one is deleted a month later.
create index tick_deleted on pgqueue.tick (recorded_at) where outcome = 'deleted';
