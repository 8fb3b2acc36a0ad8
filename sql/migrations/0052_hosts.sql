-- 0052 hosts: a lease says where its worker runs, how many slots it has, and how much memory it takes.
-- works with: 1
-- Workers may keep running: those from before do not say.

alter table pgqueue.lease add column slots integer;  -- attempts that its worker makes at once; null: it does not say
alter table pgqueue.lease add column host text;      -- the name of its machine
alter table pgqueue.lease add column process_id integer;  -- the number of its process there
alter table pgqueue.lease add column memory bigint;  -- bytes that the process held at the last renewal
