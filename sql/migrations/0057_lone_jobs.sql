-- 0057 lone jobs: of a queue that ran one job, statistics say how long that one waited and ran.
-- works with: 1
-- Workers may keep running: those from before do not say.

alter table pgqueue.stat add column first_wait float8;  -- seconds that one of the claimed jobs waited; null: it is not known
alter table pgqueue.stat add column first_run float8;   -- ... and that a handler ran
