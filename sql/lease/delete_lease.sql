-- delete_lease: remove lease $1, unless it still holds jobs.
--
-- Returns whether it is gone. The caller has locked the lease, or owns it and has stopped claiming.

delete from pgqueue.lease
where id = $1
  and not exists (select from pgqueue.running where lease_id = $1)
returning id
