-- register_lease: register lease $1 of worker $2 on queues $3 for $4, prefetching $5 jobs, with advisory lock $6
-- (null: none can be held), the losses $7 that its tasks allow if not the default, the version $8 and the tasks $9 of
-- its code, its $10 slots, its host $11 and process $12, and its memory $13 in bytes.

insert into pgqueue.lease (id, worker, queues, expires_at, prefetch, lock_key, max_losses, version, tasks,
                           slots, host, process_id, memory)
values ($1, $2, $3::text[], now() + $4::interval, $5, $6::bigint, $7::json, $8, $9::text[],
        $10, $11, $12, $13)
-- An earlier attempt whose answer was lost may have registered it already.
on conflict (id) do update set renewed_at = now(), expires_at = excluded.expires_at
