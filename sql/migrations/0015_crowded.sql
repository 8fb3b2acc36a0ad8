-- 0015 crowded: enqueueing by SQL, redriving and reprioritising go on while the queue of notifications is nearly full.
-- works with: 1
-- Workers may keep running: signatures stay. A session that listens and never reads fills that queue, and then no
-- transaction that notifies can commit. Polling finds what is not announced. Asking how full it is also lets PostgreSQL
-- drop what everybody has read, which it does not do by itself once the queue is full.

create or replace function pgqueue.enqueue(task text, arguments json DEFAULT '{}'::json, queue text DEFAULT 'default'::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, delay interval DEFAULT NULL::interval, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, tags text[] DEFAULT NULL::text[], key text DEFAULT NULL::text, id uuid DEFAULT NULL::uuid, idempotency_key text DEFAULT NULL::text, idempotency_window interval DEFAULT '24:00:00'::interval, idempotency_scope text DEFAULT 'task'::text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
        perform pg_notify('pgqueue', 'ready ' || new_lane) where pg_notification_queue_usage() < 0.9::float8;
    end if;
    return new_id;
end
$function$;

create or replace function pgqueue.redrive(id uuid, queue text DEFAULT NULL::text, arguments json DEFAULT NULL::json, reset_attempts boolean DEFAULT true, reason text DEFAULT NULL::text, actor text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    lanes integer[];
begin
    perform pgqueue.hold_workflows(array[redrive.id]);
    perform pgqueue.lock_failed(redrive.id);
    if redrive.queue = '' or json_typeof(redrive.arguments) not in ('object', 'array') then
        raise exception 'pgqueue.redrive: job % needs a queue, and arguments that are an object or an array', redrive.id
            using errcode = 'invalid_parameter_value';
    end if;
    lanes := pgqueue.reopen(array[redrive.id], 'redriven', redrive.queue, redrive.arguments,
                            redrive.reset_attempts, redrive.reason, redrive.actor);
    perform pg_notify('pgqueue', 'ready ' || lanes[1]) where pg_notification_queue_usage() < 0.9::float8;
end
$function$;

create or replace function pgqueue.reprioritise(id uuid, priority integer, reason text DEFAULT NULL::text, actor text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    before integer;
    spent integer;
    waits_in integer;
begin
    select lane.priority into before from pgqueue.job join pgqueue.lane on lane.id = job.lane
    where job.id = reprioritise.id for update of job;
    if not found then
        raise exception 'there is no job %', reprioritise.id using errcode = 'no_data_found';
    end if;
    -- It goes round while we look: see cancel.
    loop
        update pgqueue.ready set lane = pgqueue.lane_like(lane, reprioritise.priority)
        where job_id = reprioritise.id returning attempt, lane into spent, waits_in;
        if not found then
            update pgqueue.scheduled set lane = pgqueue.lane_like(lane, reprioritise.priority)
            where job_id = reprioritise.id returning attempt, lane into spent, waits_in;
        end if;
        if not found then
            update pgqueue.blocked set lane = pgqueue.lane_like(lane, reprioritise.priority)
            where job_id = reprioritise.id returning attempt, lane into spent, waits_in;
        end if;
        if not found then
            update pgqueue.running set lane = pgqueue.lane_like(lane, reprioritise.priority)
            where job_id = reprioritise.id and started_at is null returning attempt, lane into spent, waits_in;
        end if;
        exit when found;
        if pgqueue.status_of(reprioritise.id) not in ('pending', 'scheduled', 'blocked') then
            raise exception 'job % is %: only a job that waits gets another priority', reprioritise.id,
                pgqueue.status_of(reprioritise.id) using errcode = 'restrict_violation';
        end if;
    end loop;
    update pgqueue.job set lane = pgqueue.lane_like(lane, reprioritise.priority) where job.id = reprioritise.id;
    insert into pgqueue.action (job_id, action, attempt, reason, actor)
    values (reprioritise.id, 'reprioritised', spent,
            coalesce(reprioritise.reason, format('from %s to %s', before, reprioritise.priority)),
            coalesce(reprioritise.actor, session_user));
    perform pg_notify('pgqueue', 'ready ' || waits_in) where pg_notification_queue_usage() < 0.9::float8;
end
$function$;
