-- 0013 threads: a lease says how many threads of its worker run on although their attempts have ended.
-- works with: 1
-- Workers may keep running: those from before do not say.

alter table pgqueue.lease add column abandoned_threads integer;  -- null: its worker does not say
