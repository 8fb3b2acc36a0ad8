-- take_keys: give the idempotency keys in the JSON array $1 to their jobs, unless another job holds them.
--
-- Each element has id, scope, key, job_id, span, fingerprint and window in seconds (null: no end). The caller sorts
-- them by id, so that two bulk calls wait for each other and do not deadlock. Whether a key is held is decided once
-- its row is locked, by the clock and the holder's status at that moment. The lock is kept until the end of the
-- transaction, whether the key was taken or not. Returns the ids of the keys that were taken.

insert into pgqueue.idempotency_key as held (id, scope, key, job_id, span, fingerprint, expires_at)
select given.id, given.scope, given.key, given.job_id, given.span, pg_catalog.decode(given.fingerprint, 'hex'),
       coalesce(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => given."window"), 'infinity')
from pg_catalog.json_to_recordset($1::text::json) as given (
    id pg_catalog.uuid, scope pg_catalog.text, key pg_catalog.text,
    job_id pg_catalog.uuid, span pg_catalog.text, fingerprint pg_catalog.text, "window" double precision)
order by given.id
on conflict (id) do update
set job_id = excluded.job_id, span = excluded.span, fingerprint = excluded.fingerprint,
    created_at = excluded.created_at, expires_at = excluded.expires_at
where held.job_id = excluded.job_id
   or case when held.span in ('window', 'forever') then held.expires_at <= pg_catalog.clock_timestamp()
           else not pgqueue.is_held(held.span, held.job_id) end
returning held.id::text
