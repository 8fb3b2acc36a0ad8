-- 0008 roles: no superuser is needed; what needs the tables' owner is done by functions that run as the owner.
-- works with: 1
-- Workers may keep running: nothing that they call has changed. A role that has been granted the tables by hand
-- keeps what it could do.
--
-- Two rules for all functions, so that no search_path changes what they do (CVE-2018-1058). A function in SQL has
-- a parsed body (`return ...` or `begin atomic`), which PostgreSQL resolves once, here. A function in PL/pgSQL pins
-- its search_path.

-- Functions in SQL

create or replace function pgqueue.is_legal_transition(before pgqueue.job_status, after pgqueue.job_status)
returns boolean language sql immutable parallel safe
return case before
    when 'pending'   then after in ('running', 'scheduled', 'blocked', 'cancelled', 'expired', 'failed')
    when 'scheduled' then after in ('pending', 'blocked', 'cancelled', 'expired')
    when 'blocked'   then after in ('pending', 'scheduled', 'cancelled', 'expired', 'failed')
    when 'running'   then after in ('pending', 'scheduled', 'blocked', 'succeeded', 'failed', 'cancelled')
    else false
end;

create or replace function pgqueue.status_of(id uuid) returns pgqueue.job_status language sql stable
return (
    select case
        when job.status is not null then job.status
        when running.started_at is not null then 'running'
        when running.job_id is not null or ready.job_id is not null then 'pending'
        when scheduled.job_id is not null then 'scheduled'
        when blocked.job_id is not null then 'blocked'
    end::pgqueue.job_status
    from pgqueue.job
    left join pgqueue.ready on ready.job_id = job.id
    left join pgqueue.running on running.job_id = job.id
    left join pgqueue.scheduled on scheduled.job_id = job.id
    left join pgqueue.blocked on blocked.job_id = job.id
    where job.id = status_of.id
);

create or replace function pgqueue.uuid7() returns uuid language sql volatile
return encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
                placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6),
        52, 1), 53, 1), 'hex')::uuid;

create or replace function pgqueue.key_id(scope text, name text) returns uuid
language sql immutable parallel safe
return encode(substring(
    sha256(convert_to(scope, 'UTF8') || '\x00'::bytea || convert_to(name, 'UTF8')) from 1 for 16), 'hex')::uuid;

create or replace function pgqueue.has_started(job_id uuid) returns boolean language sql stable
return exists (
    select from pgqueue.attempt
    where attempt.job_id = has_started.job_id and attempt.started_at is not null
);

create or replace function pgqueue.normalised(message text) returns text
language sql immutable parallel safe
return regexp_replace(regexp_replace(regexp_replace(regexp_replace(
    left(message, 1000),
    -- A quote behind a letter is an apostrophe.
    '(^|[^[:alnum:]])(''[^'']*''|"[^"]*")', '\1?', 'g'),
    '\m[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\M', '?', 'gi'),
    '\m(0x[0-9a-f]+|(?=[a-f]*[0-9])[0-9a-f]{8,})\M', '?', 'gi'),
    '[0-9]+([.,:_-][0-9]+)*', '?', 'g');

create or replace function pgqueue.fingerprint(task text, reason text, error_type text, message text) returns text
language sql immutable parallel safe
return left(encode(sha256(convert_to(
    task || chr(31) || reason || chr(31) || coalesce(error_type, '') || chr(31)
    || coalesce(pgqueue.normalised(message), ''), 'UTF8')), 'hex'), 16);

create or replace function pgqueue.is_paused(in_queue text, for_task text) returns boolean language sql stable
return exists (
    select from pgqueue.setting
    where paused_at is not null and (kind, name) in (('queue', in_queue), ('task', for_task))
);

create or replace function pgqueue.id_at(moment timestamptz) returns uuid language sql stable parallel safe
return rpad(lpad(to_hex(greatest(floor(extract(epoch from moment) * 1000), 0)::bigint), 12, '0'), 32, '0')::uuid;

create or replace function pgqueue.is_past(
    status pgqueue.job_status, completed_at timestamptz, succeeded interval, failed interval, cancelled interval,
    expired interval
) returns boolean language sql stable parallel safe
return coalesce(completed_at < now() - case status
    when 'succeeded' then succeeded when 'failed' then failed
    when 'cancelled' then cancelled when 'expired' then expired end, false);

create or replace function pgqueue.tables_about_jobs() returns text[] language sql stable
return array(
    select name
    from unnest(array['attempt', 'action', 'step', 'progress', 'dead_letter', 'cancel_request', 'expiry'])
        as known (name)
    where to_regclass('pgqueue.' || name) is not null
);

create or replace function pgqueue.describe_dead(ids uuid[]) returns setof pgqueue.dead_letter
language sql stable
begin atomic
    select job.id, job.completed_at, job.task,
           (select lane.queue from pgqueue.lane where lane.id = job.lane),
           coalesce(job.reason, 'failed'),
           pgqueue.fingerprint(job.task, coalesce(job.reason, 'failed'), job.error ->> 'type', job.error ->> 'message'),
           job.error ->> 'type',
           left(split_part(job.error ->> 'message', chr(10), 1), 200),
           coalesce(job.attempt, 0),
           job.worker,
           (select attempt.version from pgqueue.attempt where attempt.job_id = job.id order by attempt.id desc limit 1)
    from pgqueue.job
    where job.id = any(ids) and job.status = 'failed';
end;

create or replace function pgqueue.day_partitions() returns table (name text, low uuid, high uuid)
language sql stable
begin atomic
    select day.name, pgqueue.id_at(day.begins_at), pgqueue.id_at(day.begins_at + interval '24 hours')
    from (
        select relname::text as name, to_date(right(relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC' as begins_at
        from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = 'pgqueue.job'::regclass and relname ~ '^job_[0-9]{8}$'
    ) as day
    order by day.begins_at;
end;

create or replace function pgqueue.wait_for(ids uuid[], others uuid[]) returns void
language sql set search_path to pg_catalog, pg_temp
begin atomic
    with now_ready as (
        delete from pgqueue.ready where job_id = any(ids) returning job_id, lane
    ),
    now_scheduled as (
        delete from pgqueue.scheduled where job_id = any(ids) returning job_id, lane
    )
    insert into pgqueue.blocked (job_id, lane, waits_for)
    select place.job_id, place.lane, given.other
    from (select * from now_ready union all select * from now_scheduled) as place
    join unnest(ids, others) as given (job_id, other) on given.job_id = place.job_id;
end;

-- The guard against a slip of the hand

-- Jobs move by pgqueue's own statements and functions. A statement says so with the setting pgqueue.writer, and a
-- function by its pinned search_path: a setting of our own in a function's head is for superusers. Anything else that
-- would move or finish a job is refused: it would have no fence. This keeps those from a slip who may write the
-- tables. Others are kept out by privileges: whatever a session can set is no protection.
create or replace function pgqueue.refuse_move() returns trigger language plpgsql as $$
begin
    if pg_catalog.current_setting('search_path') operator(pg_catalog.=) 'pg_catalog, pg_temp' then
        return null;
    end if;
    raise exception 'pgqueue.% is not written by hand: call pgqueue.transition(job_id, status) or pgqueue.cancel(job_id)',
        tg_table_name using errcode = 'restrict_violation';
end
$$;

-- A hand-written insert may queue a job that stands nowhere yet, and nothing else.
create or replace function pgqueue.refuse_second_place() returns trigger language plpgsql as $$
begin
    if pg_catalog.current_setting('search_path') operator(pg_catalog.=) 'pg_catalog, pg_temp' then
        return null;
    end if;
    perform pgqueue.check_only_place(new.job_id, tg_table_name);
    return null;
end
$$;

-- Raise unless a job that was put in a table by hand is live, and in no other table.
create function pgqueue.check_only_place(id uuid, put_in text) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    found_status pgqueue.job_status;
    places integer;
begin
    select job.status,
           (select count(*) from pgqueue.ready where job_id = check_only_place.id)
           + (select count(*) from pgqueue.running where job_id = check_only_place.id)
           + (select count(*) from pgqueue.scheduled where job_id = check_only_place.id)
           + (select count(*) from pgqueue.blocked where job_id = check_only_place.id)
    into found_status, places
    from pgqueue.job where job.id = check_only_place.id;
    if not found then
        raise exception 'pgqueue.%: there is no job %', put_in, check_only_place.id
            using errcode = 'foreign_key_violation';
    elsif found_status is not null then
        raise exception 'pgqueue.%: job % is % and stays so', put_in, check_only_place.id, found_status
            using errcode = 'restrict_violation';
    elsif places > 1 then
        raise exception 'pgqueue.%: job % is queued already', put_in, check_only_place.id
            using errcode = 'restrict_violation';
    end if;
end
$$;

-- Functions in PL/pgSQL

do $$
declare
    definition text;
    name text;
begin
    -- Where a superuser made the schema, functions have the setting pgqueue.writer in their heads.
    for definition in
        select pg_get_functiondef(pg_proc.oid) from pg_proc
        where pronamespace = 'pgqueue'::regnamespace and 'pgqueue.writer=on' = any(proconfig)
    loop
        execute regexp_replace(definition, E'\n SET "?pgqueue.writer"? TO ''on''', '');
    end loop;
    foreach name in array array[
        'begin_redrive', 'bury', 'cancel', 'carry_redrive', 'discard', 'discard_some', 'drop_partition', 'enqueue',
        'enter_dead_letters', 'find_dead_letters', 'forget', 'forget_range', 'hold_waiting', 'is_held', 'lane_like',
        'lane_of', 'lock_failed', 'make_partition', 'mark_processed', 'note_expiry', 'paused_lanes', 'redrive',
        'reopen', 'replace_jobs', 'reprioritise', 'requeue', 'set_lane_paused', 'set_paused', 'transition'
    ] loop
        execute format('alter function pgqueue.%I set search_path to pg_catalog, pg_temp', name);
    end loop;
end
$$;

-- What a role does by functions that run as the owner

-- Who had submit() make the job of a key, as 'JOB ROLE': a role may replace its own jobs only. It names the job,
-- because a key that passes to another job keeps it. Null, or of another job: whoever made it writes the tables.
alter table pgqueue.idempotency_key add column made_by text;

-- Write new jobs: what PgQueue sends where its role may not write the tables. `calls` is an array of objects that each
-- name a job and have what a call says; `hold` is an object, where the call has an idempotency key. Says of which
-- jobs there is more to say than that they were made:
-- 'held': not made, because `holder` has its key; `agrees`: for the same call, as far as calls are compared.
-- 'replaced': not made; `holder`, which stood as `was`, has its arguments and options, and stands as `now`.
-- 'follows': made, and starts when `holder` has ended. 'due': made, and its time had come.
-- What another role has made is not changed: where it holds a key, it is 'held', whatever the call asks for.
create function pgqueue.submit(calls json)
returns table (job_id uuid, outcome text, holder uuid, agrees boolean, was text, now text)
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    call record;
    held pgqueue.idempotency_key;
    mark text;
    passes boolean;
    unmade uuid[] := '{}';
    followers uuid[] := '{}';
    followed uuid[] := '{}';
begin
    for call in
        select given.job_id
        from json_to_recordset(calls) as given (
            job_id uuid, task text, queue text, arguments text, options text, headers text)
        where given.job_id is null or coalesce(given.task, '') = '' or coalesce(given.queue, '') = ''
           or coalesce(json_typeof(given.arguments::json) not in ('object', 'array'), true)
           or json_typeof(given.options::json) <> 'object' or json_typeof(given.headers::json) <> 'object'
    loop
        raise exception 'pgqueue.submit: job % needs an id, a task, a queue, arguments that are an object or an array, '
            'and options and headers that are objects', call.job_id using errcode = 'invalid_parameter_value';
    end loop;
    -- The function is a later migration's, as is whoever calls this.
    for call in
        select given.job_id, pgqueue.flaw_of(
            given.task, given.queue, given.key,
            case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end,
            coalesce(given.run_at, now() + make_interval(secs => given.delay)),
            coalesce(given.expires_at, now() + make_interval(secs => given.expires_after)),
            given.hold ->> 'scope') as flaw
        from json_to_recordset(calls) as given (
            job_id uuid, task text, queue text, key text, tags text, run_at timestamptz, delay double precision,
            expires_at timestamptz, expires_after double precision, hold json)
    loop
        if call.flaw is not null then
            raise exception 'pgqueue.submit: job %: %', call.job_id, call.flaw
                using errcode = 'invalid_parameter_value';
        end if;
    end loop;
    perform pgqueue.lane_of(lane.queue, lane.priority)
    from (
        select distinct given.queue, given.priority
        from json_to_recordset(calls) as given (queue text, priority smallint)
        order by 1, 2
    ) as lane;

    -- One by one, in an order that all have: of two calls that share keys, one waits for the other.
    for call in
        select given.job_id, given.document, pgqueue.key_id(hold.scope, hold.key) as key_id, hold.*
        from (
            select (document ->> 'job_id')::uuid as job_id, document
            from json_array_elements(calls) as document
            where json_typeof(document -> 'hold') = 'object'
        ) as given
        cross join json_to_record(given.document -> 'hold') as hold (
            scope text, key text, span text, fingerprint text, "window" double precision, on_conflict text)
        order by key_id
    loop
        mark := call.job_id || ' ' || session_user;
        insert into pgqueue.idempotency_key as held (
            id, scope, key, job_id, span, fingerprint, expires_at, made_by)
        values (call.key_id, call.scope, call.key, call.job_id, call.span, decode(call.fingerprint, 'hex'),
                coalesce(clock_timestamp() + make_interval(secs => call."window"), 'infinity'), mark)
        on conflict on constraint idempotency_key_pkey do update
        set job_id = excluded.job_id, span = excluded.span, fingerprint = excluded.fingerprint,
            created_at = excluded.created_at, expires_at = excluded.expires_at, made_by = excluded.made_by
        where case when held.span in ('window', 'forever') then held.expires_at <= clock_timestamp()
                   else not pgqueue.is_held(held.span, held.job_id) end;
        continue when found;
        -- Its row is locked now, and stays as it is.
        select * into strict held from pgqueue.idempotency_key where idempotency_key.id = call.key_id;
        job_id := call.job_id;
        outcome := 'held';
        holder := held.job_id;
        agrees := coalesce(held.fingerprint = decode(call.fingerprint, 'hex'), true);
        was := null;
        now := null;
        passes := false;
        if held.made_by = held.job_id || ' ' || session_user then
            if call.on_conflict = 'coalesce' then
                case pgqueue.hold_waiting(holder)
                    when 'running' then
                        outcome := 'follows';
                        followers := followers || call.job_id;
                        followed := followed || holder;
                        passes := true;
                        return next;
                    when 'over' then
                        passes := true;
                    else
                end case;
            elsif call.on_conflict in ('replace', 'debounce') then
                was := pgqueue.status_of(holder);
                perform pgqueue.replace_jobs(json_build_array(
                    (call.document::jsonb || jsonb_build_object('job_id', holder))::json));
                if found then
                    outcome := 'replaced';
                    now := pgqueue.status_of(holder);
                    mark := held.made_by;
                    passes := true;
                else
                    -- It has started since its key was looked up, which can end the hold.
                    passes := case when held.span in ('window', 'forever') then held.expires_at <= clock_timestamp()
                                   else not pgqueue.is_held(held.span, holder) end;
                end if;
            end if;
        end if;
        if passes then
            update pgqueue.idempotency_key
            set job_id = case outcome when 'replaced' then holder else call.job_id end, span = call.span,
                fingerprint = decode(call.fingerprint, 'hex'), created_at = clock_timestamp(),
                expires_at = coalesce(clock_timestamp() + make_interval(secs => call."window"), 'infinity'),
                made_by = mark
            where idempotency_key.id = call.key_id;
        end if;
        if outcome = 'replaced' or not passes then
            unmade := unmade || call.job_id;
            return next;
        end if;
    end loop;

    return query
    with added as (
        insert into pgqueue.job (id, lane, task, arguments, expires_at, options, headers, tags, key, run_at)
        select given.job_id,
               (select lane.id from pgqueue.lane
                where lane.queue = given.queue and lane.priority = given.priority and lane.task = ''),
               given.task, given.arguments::json,
               coalesce(given.expires_at, now() + make_interval(secs => given.expires_after)),
               given.options::json, given.headers::json,
               case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end,
               given.key, coalesce(given.run_at, now() + make_interval(secs => given.delay))
        from json_to_recordset(calls) as given (
            job_id uuid, task text, arguments text, queue text, priority smallint, run_at timestamptz,
            delay double precision, expires_at timestamptz, expires_after double precision,
            options text, headers text, tags text, key text)
        where given.job_id not in (select unnest(unmade))
        returning id, lane, run_at
    ),
    waiting as (
        insert into pgqueue.scheduled (job_id, scheduled_at, lane)
        select added.id, added.run_at, added.lane from added where added.run_at > now()
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane)
        select added.id, added.lane from added where coalesce(added.run_at <= now(), true) order by added.id
    )
    select added.id, 'due'::text, null::uuid, null::boolean, null::text, null::text
    from added where added.run_at <= now();
    perform pgqueue.wait_for(followers, followed);
end
$$;

-- How many jobs of a queue are ready, counting to `most`: for the limits that callers keep to.
create function pgqueue.count_depth(in_queue text, most integer) returns bigint
language plpgsql stable security definer set search_path to pg_catalog, pg_temp as $$
begin
    return (
        select count(*)
        from (
            select from pgqueue.ready
            where ready.lane = any(array(select lane.id from pgqueue.lane where lane.queue = in_queue))
            limit most
        ) as waiting
    );
end
$$;

-- Those of `ids` that are jobs': whether a job with a chosen id, or one whose answer was lost, was made.
create function pgqueue.find_existing(ids uuid[]) returns setof uuid
language plpgsql stable security definer set search_path to pg_catalog, pg_temp as $$
begin
    return query select job.id from pgqueue.job where job.id = any(ids);
end
$$;

-- The version of the schema, for roles that may read no table. See read_version.
create function pgqueue.read_version(since integer) returns table (version integer, works_with integer)
language plpgsql stable security definer set search_path to pg_catalog, pg_temp as $$
begin
    return query
    select coalesce(max(migration.version), 0),
           coalesce(max(migration.works_with) filter (where migration.version > since), 0)
    from pgqueue.migration;
end
$$;

-- Drop a day partition, as before; as the owner now, so only what is one.
create or replace function pgqueue.drop_partition(name text, low uuid, high uuid) returns boolean
language plpgsql security definer set search_path to pg_catalog, pg_temp set lock_timeout to '50ms' as $$
begin
    if not exists (
        select from pgqueue.day_partitions() as day
        where day.name = drop_partition.name and day.low = drop_partition.low and day.high = drop_partition.high
    ) then
        return false;
    end if;
    -- Claims that come meanwhile queue behind this: so it waits no longer than they may.
    lock table only pgqueue.job in access exclusive mode;
    if exists (select from pgqueue.ready where job_id >= low and job_id < high)
       or exists (select from pgqueue.running where job_id >= low and job_id < high)
       or exists (select from pgqueue.scheduled where job_id >= low and job_id < high)
       or exists (select from pgqueue.blocked where job_id >= low and job_id < high) then
        return false;
    end if;
    execute format('drop table pgqueue.%I', name);
    return true;
exception
    when lock_not_available or undefined_table or deadlock_detected then
        return false;
end
$$;

alter function pgqueue.enqueue security definer;
alter function pgqueue.lane_of security definer;
alter function pgqueue.make_partition security definer;

-- What runs as the owner is not everybody's. Roles that have been granted the tables by hand keep it.
do $$
declare
    definer regprocedure;
    grantee text;
begin
    for definer in
        select oid::regprocedure from pg_proc
        where pronamespace = 'pgqueue'::regnamespace and prosecdef and proname in (
            'count_depth', 'drop_partition', 'enqueue', 'find_existing', 'lane_of', 'make_partition', 'read_version',
            'submit')
    loop
        execute format('revoke execute on function %s from public', definer);
        for grantee in
            select distinct case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end
            from pg_class cross join lateral aclexplode(relacl) as acl
            where pg_class.oid = 'pgqueue.job'::regclass and acl.privilege_type = 'INSERT'
              and acl.grantee <> relowner
        loop
            execute format('grant execute on function %s to %s', definer, grantee);
        end loop;
    end loop;
end
$$;
