-- find_keys: the jobs that hold the idempotency keys with ids $1, and the fingerprints of their calls.

select id::text, job_id::text, pg_catalog.encode(fingerprint, 'hex') as fingerprint
from pgqueue.idempotency_key
where id = any($1::text::uuid[])
