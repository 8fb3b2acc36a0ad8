-- take_keys: give idempotency keys to jobs, as the JSON array $1 says, where no other job holds them.
--
-- Of each: id, scope, key, job_id, span, fingerprint and window in seconds (null: for ever). The caller sorts
-- them by id, so that two bulk calls take turns and do not deadlock. Whether a key is held is judged once
-- its row is locked, by the clock of that moment and the holder's status as of then; the lock stays to the
-- end of the transaction, taken or not. Returns the ids that were taken.

insert into pgqueue.idempotency_key as held (id, scope, key, job_id, span, fingerprint, expires_at)
select given.id, given.scope, given.key, given.job_id, given.span, decode(given.fingerprint, 'hex'),
       coalesce(clock_timestamp() + make_interval(secs => given."window"), 'infinity')
from json_to_recordset($1::text::json) as given (
    id uuid, scope text, key text, job_id uuid, span text, fingerprint text, "window" double precision)
order by given.id
on conflict (id) do update
set job_id = excluded.job_id, span = excluded.span, fingerprint = excluded.fingerprint,
    created_at = excluded.created_at, expires_at = excluded.expires_at
where held.job_id = excluded.job_id
   or case when held.span in ('window', 'forever') then held.expires_at <= clock_timestamp()
           else not pgqueue.is_held(held.span, held.job_id) end
returning held.id
