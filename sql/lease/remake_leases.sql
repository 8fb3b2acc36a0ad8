-- remake_leases: make those of leases $1 that still hold jobs as expired ones, so that their jobs are rescued.
--
-- Somebody has removed the lease of a worker that is gone. A claim needs its lease, and a lease that holds jobs is not
-- removed by pgqueue. A worker that lives has found out meanwhile, and has stopped its attempts.

insert into pgqueue.lease (id, worker, queues, expires_at)
select given.id, 'unknown', '{}'::text[], now()
from unnest($1::uuid[]) as given (id)
where exists (select from pgqueue.running where running.lease_id = given.id)
on conflict (id) do nothing
