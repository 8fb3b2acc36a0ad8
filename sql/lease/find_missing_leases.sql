-- find_missing_leases: the leases that running jobs name and that there are not.

select distinct running.lease_id
from pgqueue.running
where not exists (select from pgqueue.lease where lease.id = running.lease_id)
