-- find_expired_leases: the expired leases, with their workers.

select id, worker from pgqueue.lease where expires_at <= now() order by expires_at
