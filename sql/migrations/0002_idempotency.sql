-- 0002 idempotency: keys that make a second call find the first one's job, jobs that wait for the end of
-- another, and the inbox of processed events.
-- works with: 1
-- Workers may keep running. Those of an older version release no job that waits for another.

-- A key, and the job that has it. The row outlives the job. `id` is a digest of scope and key: those can be
-- longer than an index entry. See `pgqueue.key_id`.
create table pgqueue.idempotency_key (
    id          uuid primary key,
    scope       text not null,            -- task:NAME, queue:NAME, global, tenant:NAME
    key         text not null,
    job_id      uuid not null,
    span        text not null
                check (span in ('pending', 'started', 'terminal', 'success', 'window', 'forever')),
    fingerprint bytea,                    -- of the call; null: any call is the same
    created_at  timestamptz not null default clock_timestamp(),
    -- The end of the window; for a hold that ends with the job, when maintenance next looks whether it has.
    expires_at  timestamptz not null
) with (fillfactor = 90);
create index idempotency_key_expires_at on pgqueue.idempotency_key (expires_at);

-- External events that have been dealt with.
create table pgqueue.inbox (
    id           uuid primary key,        -- a digest of source and event
    source       text not null,
    event_id     text not null,
    marker       uuid not null,           -- of the call that was first
    processed_at timestamptz not null default clock_timestamp(),
    expires_at   timestamptz not null
) with (fillfactor = 90);
create index inbox_expires_at on pgqueue.inbox (expires_at);

-- A blocked job that waits for another's end, whichever it is.
alter table pgqueue.blocked add column waits_for uuid;
create index blocked_waits_for on pgqueue.blocked (waits_for) where waits_for is not null;

-- The digest of a name in a scope: half a SHA-256.
create function pgqueue.key_id(scope text, name text) returns uuid
language sql immutable parallel safe as $$
    select encode(substring(
        sha256(convert_to(scope, 'UTF8') || '\x00'::bytea || convert_to(name, 'UTF8')) for 16), 'hex')::uuid
$$;

-- Whether an attempt of a waiting job was ever started.
create function pgqueue.has_started(job_id uuid) returns boolean language sql stable as $$
    select exists (
        select from pgqueue.attempt
        where attempt.job_id = has_started.job_id and attempt.started_at is not null)
$$;

-- Whether a job still holds a key for a span that ends with the job. Volatile, so that it sees what was
-- committed while the statement that asks waited for the key.
create function pgqueue.is_held(span text, holder uuid) returns boolean
language plpgsql volatile as $$
declare
    status pgqueue.job_status := pgqueue.status_of(holder);
begin
    return coalesce(case span
        when 'pending' then status in ('pending', 'scheduled', 'blocked')
        when 'started' then status in ('pending', 'scheduled', 'blocked')
                            and not pgqueue.has_started(holder)
        when 'terminal' then status in ('pending', 'scheduled', 'blocked', 'running')
        when 'success' then status not in ('succeeded', 'cancelled', 'expired')
    end, false);
end
$$;

-- Whether a job waits, runs or is over ('waiting', 'running', 'over'). A waiting one is locked: nobody starts
-- it before this transaction ends, so it will see all that this transaction writes.
create function pgqueue.hold_waiting(id uuid) returns text
language plpgsql as $$
begin
    -- It may go from place to place while we look: look again until it is found or is over.
    loop
        perform from pgqueue.ready where job_id = hold_waiting.id for share;
        if found then
            return 'waiting';
        end if;
        perform from pgqueue.scheduled where job_id = hold_waiting.id for share;
        if found then
            return 'waiting';
        end if;
        perform from pgqueue.blocked where job_id = hold_waiting.id for share;
        if found then
            return 'waiting';
        end if;
        perform from pgqueue.running where job_id = hold_waiting.id;
        if found then
            return 'running';
        end if;
        if not exists (select from pgqueue.job where job.id = hold_waiting.id and job.status is null) then
            return 'over';
        end if;
    end loop;
end
$$;

-- Give jobs that have not started other arguments, options and times: an array of objects that name each job
-- and have what a call says. Answers with the jobs that took them; the others had started. A job that waits
-- for another goes on waiting.
create function pgqueue.replace_jobs(calls json) returns setof uuid
language plpgsql as $$
declare
    call record;
    new_lane integer;
    start_at timestamptz;
    end_at timestamptz;
    since timestamptz;
    place bigint;
begin
    for call in
        select * from json_to_recordset(calls) as given (
            job_id uuid, task text, arguments text, queue text, priority smallint, run_at timestamptz,
            delay double precision, expires_at timestamptz, expires_after double precision,
            options text, headers text, tags text, key text)
        order by given.job_id
    loop
        select lane.id into strict new_lane from pgqueue.lane
        where lane.queue = call.queue and lane.priority = call.priority and lane.task = '';
        start_at := coalesce(call.run_at, now() + make_interval(secs => call.delay));
        end_at := coalesce(call.expires_at, now() + make_interval(secs => call.expires_after));
        -- The record first, as everywhere; then one of us and a claim gets the place.
        perform from pgqueue.job where job.id = call.job_id for update;
        since := null;
        place := null;
        update pgqueue.blocked set lane = new_lane
        where blocked.job_id = call.job_id and not pgqueue.has_started(call.job_id);
        if not found then
            delete from pgqueue.ready where ready.job_id = call.job_id and not pgqueue.has_started(call.job_id)
                returning ready.ready_at, ready.position into since, place;
            if not found then
                delete from pgqueue.scheduled
                where scheduled.job_id = call.job_id and not pgqueue.has_started(call.job_id);
                continue when not found;
            end if;
            if start_at > now() then
                insert into pgqueue.scheduled (job_id, scheduled_at, lane)
                values (call.job_id, start_at, new_lane);
            else
                insert into pgqueue.ready (job_id, ready_at, position, lane)
                values (call.job_id, coalesce(since, now()), coalesce(place, nextval('pgqueue.position')),
                        new_lane);
            end if;
        end if;
        update pgqueue.job
        set lane = new_lane, task = call.task, arguments = call.arguments::json, run_at = start_at,
            expires_at = end_at, options = call.options::json, headers = call.headers::json,
            key = call.key,
            tags = case when call.tags is not null
                        then array(select json_array_elements_text(call.tags::json)) end
        where job.id = call.job_id;
        if end_at is not null then
            -- The table is a later migration's, as is whoever calls this. Without an expiry, its row is of no
            -- interest when it comes up.
            insert into pgqueue.expiry (job_id, check_at) values (call.job_id, end_at)
            on conflict (job_id) do update set check_at = excluded.check_at;
        end if;
        return next call.job_id;
    end loop;
end
$$;

-- Have new jobs wait, each for the end of another.
create function pgqueue.wait_for(ids uuid[], others uuid[]) returns void
language sql as $$
    with now_ready as (
        delete from pgqueue.ready where job_id = any(ids) returning job_id, lane
    ),
    now_scheduled as (
        delete from pgqueue.scheduled where job_id = any(ids) returning job_id, lane
    )
    insert into pgqueue.blocked (job_id, lane, waits_for)
    select place.job_id, place.lane, given.other
    from (select * from now_ready union all select * from now_scheduled) as place
    join unnest(ids, others) as given (job_id, other) on given.job_id = place.job_id
$$;

-- Note that an external event is being dealt with, in the caller's transaction; false: it was before.
-- Of two at once the second waits for the first one's end. `marker` tells a call that is repeated because
-- its answer was lost from another one.
create function pgqueue.mark_processed(
    source text, event_id text, ttl interval default '7 days', marker uuid default gen_random_uuid()
) returns boolean language plpgsql as $$
begin
    if coalesce(mark_processed.source, '') = '' or coalesce(mark_processed.event_id, '') = ''
       or not coalesce(mark_processed.ttl > interval '0', false) then
        raise exception 'pgqueue.mark_processed: an event needs a source, an id, and a time to be remembered'
            using errcode = 'invalid_parameter_value';
    end if;
    insert into pgqueue.inbox as known (id, source, event_id, marker, expires_at)
    values (pgqueue.key_id(mark_processed.source, mark_processed.event_id), mark_processed.source,
            mark_processed.event_id, mark_processed.marker, clock_timestamp() + mark_processed.ttl)
    on conflict on constraint inbox_pkey do update
    set marker = excluded.marker, processed_at = excluded.processed_at, expires_at = excluded.expires_at
    where known.expires_at <= clock_timestamp() or known.marker = excluded.marker;
    return found;
end
$$;

-- Enqueue from SQL, with an idempotency key where one is given: then the answer is the job that has it.
drop function pgqueue.enqueue(
    text, json, text, integer, timestamptz, interval, timestamptz, text[], text, uuid);
create function pgqueue.enqueue(
    task text, arguments json default '{}', queue text default 'default', priority integer default 0,
    run_at timestamptz default null, delay interval default null,
    expires_at timestamptz default null, tags text[] default null, key text default null,
    id uuid default null, idempotency_key text default null,
    idempotency_window interval default '24 hours', idempotency_scope text default 'task'
) returns uuid language plpgsql as $$
declare
    new_id uuid := coalesce(enqueue.id, pgqueue.uuid7());
    new_lane integer;
    start_at timestamptz := coalesce(enqueue.run_at, now() + enqueue.delay);
    in_scope text := case
        when idempotency_scope = 'task' then 'task:' || enqueue.task
        when idempotency_scope = 'queue' then 'queue:' || enqueue.queue
        when idempotency_scope = 'global' or idempotency_scope like 'tenant:_%' then idempotency_scope end;
    holder uuid;
begin
    if coalesce(enqueue.task, '') = '' or coalesce(enqueue.queue, '') = '' then
        raise exception 'pgqueue.enqueue: a job needs a task and a queue' using errcode = 'invalid_parameter_value';
    end if;
    if json_typeof(enqueue.arguments) is distinct from 'object' and json_typeof(enqueue.arguments) is distinct from 'array' then
        raise exception 'pgqueue.enqueue: the arguments of task % are neither an object nor an array', enqueue.task
            using errcode = 'invalid_parameter_value';
    end if;
    if enqueue.idempotency_key is not null then
        if length(enqueue.idempotency_key) not between 1 and 512 then
            raise exception 'pgqueue.enqueue: the idempotency key of task % has % characters: give 1 to 512',
                enqueue.task, length(enqueue.idempotency_key) using errcode = 'invalid_parameter_value';
        elsif in_scope is null then
            raise exception 'pgqueue.enqueue: the idempotency scope is %: give task, queue, global or tenant:NAME',
                idempotency_scope using errcode = 'invalid_parameter_value';
        elsif idempotency_window <= interval '0' then
            raise exception 'pgqueue.enqueue: the idempotency window is %: give more than zero, or null for ever',
                idempotency_window using errcode = 'invalid_parameter_value';
        end if;
        insert into pgqueue.idempotency_key as held (id, scope, key, job_id, span, expires_at)
        values (pgqueue.key_id(in_scope, enqueue.idempotency_key), in_scope, enqueue.idempotency_key, new_id,
                case when idempotency_window is null then 'forever' else 'window' end,
                coalesce(clock_timestamp() + idempotency_window, 'infinity'))
        on conflict on constraint idempotency_key_pkey do update
        set job_id = excluded.job_id, span = excluded.span, fingerprint = null,
            created_at = excluded.created_at, expires_at = excluded.expires_at
        where case when held.span in ('window', 'forever') then held.expires_at <= clock_timestamp()
                   else not pgqueue.is_held(held.span, held.job_id) end;
        if not found then
            select held.job_id into strict holder from pgqueue.idempotency_key as held
            where held.id = pgqueue.key_id(in_scope, enqueue.idempotency_key);
            return holder;
        end if;
    end if;
    new_lane := pgqueue.lane_of(enqueue.queue, enqueue.priority::smallint);
    insert into pgqueue.job (id, lane, task, arguments, run_at, expires_at, tags, key)
    values (new_id, new_lane, enqueue.task, enqueue.arguments, start_at, enqueue.expires_at, enqueue.tags, enqueue.key);
    if start_at > now() then
        insert into pgqueue.scheduled (job_id, scheduled_at, lane) values (new_id, start_at, new_lane);
    else
        insert into pgqueue.ready (job_id, lane) values (new_id, new_lane);
        perform pg_notify('pgqueue', 'ready ' || new_lane);
    end if;
    return new_id;
end
$$;
