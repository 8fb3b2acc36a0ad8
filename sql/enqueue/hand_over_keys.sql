-- hand_over_keys: give the idempotency keys in the JSON array $1, with ids $2, to other jobs.
--
-- The caller has locked them with take_keys, and the array has the same form as there.

update pgqueue.idempotency_key
set job_id = given.job_id, span = given.span, fingerprint = pg_catalog.decode(given.fingerprint, 'hex'),
    created_at = pg_catalog.clock_timestamp(),
    expires_at = coalesce(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => given."window"), 'infinity')
from pg_catalog.json_to_recordset($1::text::json) as given (
    id pg_catalog.uuid, job_id pg_catalog.uuid,
    span pg_catalog.text, fingerprint pg_catalog.text, "window" double precision)
where idempotency_key.id = given.id
  and idempotency_key.id = any($2::text::uuid[])
