-- 0058 operations end: the records of bulk operations and of mass redrives are found by when they ended, to be removed.
-- works with: 1
-- Workers may keep running: those from before leave the removal to the others.

create index bulk_ended on pgqueue.bulk (ended_at) where ended_at is not null;
create index mass_redrive_ended on pgqueue.mass_redrive (ended_at) where ended_at is not null;
