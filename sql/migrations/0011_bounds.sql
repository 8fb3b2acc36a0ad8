-- 0011 bounds: pgqueue.enqueue refuses what Python could not read back, as the Python client does.
-- works with: 1
-- Workers may keep running: what is stored already stays as it is.

-- What is wrong with a job that is to be enqueued; null: nothing. PostgreSQL itself refuses NUL and surrogates.
create function pgqueue.flaw_of(
    task text, queue text, key text, tags text[], run_at timestamptz, expires_at timestamptz, scope text
) returns text language sql stable set search_path to pg_catalog, pg_temp as $$
    select case
        when length(task) > 255 then format('the name of the task has %s characters: give at most 255', length(task))
        when length(queue) > 200 then format('the name of the queue has %s characters: give at most 200', length(queue))
        when length(key) not between 1 and 512 then format('the key has %s characters: give 1 to 512', length(key))
        when cardinality(tags) > 100 then format('the job has %s tags: give at most 100', cardinality(tags))
        when exists (select from unnest(tags) as tag where tag is null or length(tag) not between 1 and 512)
            then 'each tag must have 1 to 512 characters'
        when run_at not between '0001-01-02 00:00:00+00' and '9999-12-30 00:00:00+00'
            then format('it would start at %s: give a time from 0001-01-02 to 9999-12-30', run_at)
        when expires_at not between '0001-01-02 00:00:00+00' and '9999-12-30 00:00:00+00'
            then format('it would expire at %s: give a time from 0001-01-02 to 9999-12-30', expires_at)
        when length(scope) > 512 then format('the idempotency scope has %s characters: give at most 512', length(scope))
    end
$$;

create or replace function pgqueue.enqueue(
    task text, arguments json default '{}', queue text default 'default', priority integer default 0,
    run_at timestamptz default null, delay interval default null,
    expires_at timestamptz default null, tags text[] default null, key text default null,
    id uuid default null, idempotency_key text default null,
    idempotency_window interval default '24 hours', idempotency_scope text default 'task'
) returns uuid language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
declare
    new_id uuid := coalesce(enqueue.id, pgqueue.uuid7());
    new_lane integer;
    start_at timestamptz := coalesce(enqueue.run_at, now() + enqueue.delay);
    in_scope text := case
        when idempotency_scope = 'task' then 'task:' || enqueue.task
        when idempotency_scope = 'queue' then 'queue:' || enqueue.queue
        when idempotency_scope = 'global' or idempotency_scope like 'tenant:_%' then idempotency_scope end;
    holder uuid;
    flaw text;
begin
    if coalesce(enqueue.task, '') = '' or coalesce(enqueue.queue, '') = '' then
        raise exception 'pgqueue.enqueue: a job needs a task and a queue' using errcode = 'invalid_parameter_value';
    end if;
    if json_typeof(enqueue.arguments) is distinct from 'object' and json_typeof(enqueue.arguments) is distinct from 'array' then
        raise exception 'pgqueue.enqueue: the arguments of task % are neither an object nor an array', enqueue.task
            using errcode = 'invalid_parameter_value';
    end if;
    flaw := pgqueue.flaw_of(enqueue.task, enqueue.queue, enqueue.key, enqueue.tags, start_at, enqueue.expires_at,
                            in_scope);
    if flaw is not null then
        raise exception 'pgqueue.enqueue: %', flaw using errcode = 'invalid_parameter_value';
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
