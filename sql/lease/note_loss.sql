-- note_loss: note with the expired lease $1 how many jobs ran under it beside each other.
--
-- Noted once, before the first of them is rescued: later there are fewer. A job that ran alone can only blame itself.

update pgqueue.lease
set beside = (select greatest(count(*) - 1, 0) from pgqueue.running where lease_id = $1 and started_at is not null)
where id = $1
  and beside is null
