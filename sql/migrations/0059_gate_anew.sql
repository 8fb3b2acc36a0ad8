-- 0059 gate_anew: a job that is edited or redriven passes the limits of the queue that it comes to, and the keys of its new arguments.
-- works with: 1
-- Workers may keep running.

-- What a job passes in `to_queue` that has passed `had` in `from_queue`. `given`: what a process that declares its task says
-- that it passes there (null: no process has); all of that counts if its arguments are new, and otherwise the window of a
-- fair queue alone. The database knows which queues have limits, and not the key of a fair queue.
create function pgqueue.gates_there(had text[], given text[], from_queue text, to_queue text, is_new boolean)
returns text[] language plpgsql stable set search_path to pg_catalog, pg_temp as $$
declare
    stays constant boolean := from_queue = to_queue;
    told constant text[] := coalesce(case when is_new then given end, had, '{}');
    windows constant text[] := coalesce(given, '{}') || coalesce(had, '{}');
    line text[] := '{}';
    share text[] := '{}';
    own text[] := '{}';
    of_queue text[] := '{}';
    rule text;
begin
    for number in 1 .. cardinality(told) / 2 loop
        rule := told[2 * number - 1];
        if starts_with(rule, 'order/') then
            line := told[2 * number - 1 : 2 * number];
        elsif not (starts_with(rule, 'fair/') or starts_with(rule, 'queue/') or starts_with(rule, 'rate/')) then
            own := own || told[2 * number - 1 : 2 * number];
        end if;
    end loop;
    for number in 1 .. cardinality(windows) / 2 loop
        if windows[2 * number - 1] = 'fair/' || to_queue and share = '{}' then
            share := windows[2 * number - 1 : 2 * number];
        end if;
    end loop;
    foreach rule in array array['queue/' || to_queue, 'rate/' || to_queue] loop
        if rule = any(told) or (stays and rule = any(had))
           or (not stays and exists (
               select from pgqueue.limit_rule where limit_rule.name = rule and limit_rule.when_full is not null)) then
            of_queue := of_queue || array[rule, ''];
        end if;
    end loop;
    return nullif(line || share || own || of_queue, '{}');
end
$$;

-- A call's gates, a JSON list of pairs, as they are stored; null: none are given.
create function pgqueue.read_gates(gates json) returns text[] language sql immutable set search_path to pg_catalog, pg_temp as $$
    select case when gates is not null then array(
        select pair.part
        from json_array_elements(gates) with ordinality as gate (pair, number)
        cross join lateral (values (1, gate.pair ->> 0), (2, gate.pair ->> 1)) as pair (side, part)
        order by gate.number, pair.side) end
$$;

-- Have a job that is not running, and whose record and place the caller has locked, pass `gates` (null: none) from now on.
-- It keeps what it holds of those that it has before all that change, gives the rest back, and stands at the first one that
-- it has not passed. In another line it is the last. Raises if its old line waits for an operator because of it.
create function pgqueue.gate_anew(id uuid, gates text[]) returns void language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    had text[];
    keeps uuid[] := '{}';
    leaves_line boolean;
begin
    if cardinality(gate_anew.gates) > 38 or cardinality(gate_anew.gates) % 2 = 1 or exists (
        select from unnest(gate_anew.gates) with ordinality as gate (part, number)
        where coalesce(length(gate.part) > case when gate.number % 2 = 1 then 300 else 512 end, true)
    ) then
        raise exception 'pgqueue.gate_anew: job %: it takes at most 19 names of at most 300 characters, each with a key of at most 512',
            gate_anew.id using errcode = 'invalid_parameter_value';
    end if;
    select job.gates into had from pgqueue.job where job.id = gate_anew.id;
    if had is not distinct from gate_anew.gates then
        return;
    end if;
    leaves_line := coalesce(starts_with(had[1], 'order/'), false) and had[1:2] is distinct from gate_anew.gates[1:2];
    if leaves_line and exists (select from pgqueue.stopped where stopped.job_id = gate_anew.id and stopped.halts) then
        raise exception 'job % has halted its line, which waits for an operator: resume key % of group % first',
            gate_anew.id, had[2], substr(had[1], 7) using errcode = 'object_not_in_prerequisite_state';
    end if;
    for number in 1 .. coalesce(cardinality(gate_anew.gates), 0) / 2 loop
        exit when had[2 * number - 1 : 2 * number] is distinct from gate_anew.gates[2 * number - 1 : 2 * number];
        keeps := keeps || pgqueue.key_id(had[2 * number - 1], had[2 * number]);
    end loop;
    -- In one transaction: nobody finds it ready before it stands at its gate.
    with off as (
        delete from pgqueue.blocked where blocked.job_id = gate_anew.id and blocked.gate is not null returning blocked.*
    )
    insert into pgqueue.ready (job_id, lane, position, attempt, losses)
    select off.job_id, off.lane, coalesce(off.position, nextval('pgqueue.position')), off.attempt, off.losses from off;
    update pgqueue.job
    set gates = gate_anew.gates,
        hooks = nullif((coalesce(job.hooks, 0) & (~36)) | case
            when gate_anew.gates is null then 0 when starts_with(gate_anew.gates[1], 'order/') then 36 else 4 end, 0),
        turn = case when not coalesce(starts_with(gate_anew.gates[1], 'order/'), false) then null
                    when gate_anew.gates[1:2] = had[1:2] then job.turn
                    else nextval('pgqueue.position') end
    where job.id = gate_anew.id;
    with freed as (
        delete from pgqueue.gate_pass where gate_pass.job_id = gate_anew.id and gate_pass.gate <> all(keeps)
        returning gate_pass.gate, gate_pass.kept as is_line
    )
    insert into pgqueue.note (node_id, kind, released)
    select freed.gate, 'gate', case when freed.is_line is null then 1 end from freed;
    if leaves_line then
        perform pgqueue.start_lines(array[gate_anew.id]);
    end if;
    perform pgqueue.gate_in(array[gate_anew.id]);
    perform pg_notify('pgqueue', 'attend') where pg_notification_queue_usage() < 0.9::float8;
end
$$;

drop function pgqueue.edit(uuid, text, integer, timestamptz, json, text, text);

-- Change a waiting job. What is null stays as it is. The caller validates the arguments. `gates`: what it passes with them, a
-- JSON list of pairs; null: the caller does not know. Raises for a job that is running or has ended (restrict_violation), for
-- what its limits, its order or the jobs before it have settled (object_not_in_prerequisite_state), and for an unknown id.
create function pgqueue.edit(id uuid, queue text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, arguments json DEFAULT NULL::json, reason text DEFAULT NULL::text, actor text DEFAULT NULL::text, gates json DEFAULT NULL::json)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $$
declare
    this record;
    place record;
    moves boolean;
    to_lane integer;
    changed text[] := '{}';
    flaw text := pgqueue.flaw_of_gates(edit.gates);
begin
    if flaw is not null then
        raise exception 'pgqueue.edit: job %: %', edit.id, flaw using errcode = 'invalid_parameter_value';
    end if;
    perform pgqueue.check_text('pgqueue.edit: queue', edit.queue, 255, 1);
    perform pgqueue.check_text('pgqueue.edit: actor', edit.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.edit: reason', edit.reason, 1000, 0);
    if edit.priority not between -32768 and 32767 then
        raise exception 'pgqueue.edit: priority must be from -32768 to 32767' using errcode = 'numeric_value_out_of_range';
    end if;
    -- Under its lock it stays where it is, but for a claim, a promotion and a gate that lets it through.
    select job.lane, job.gates, job.turn, job.hooks, lane.queue, lane.priority into this
    from pgqueue.job join pgqueue.lane on lane.id = job.lane
    where job.id = edit.id for update of job;
    if not found then
        raise exception 'there is no job %', edit.id using errcode = 'no_data_found';
    end if;
    moves := edit.queue is not null and edit.queue <> this.queue;
    loop
        select ready.job_id, 'ready' as standing, ready.lane, ready.attempt, ready.losses into place
        from pgqueue.ready where ready.job_id = edit.id for update;
        exit when found;
        select scheduled.job_id, 'scheduled' as standing, scheduled.lane, scheduled.attempt, scheduled.losses into place
        from pgqueue.scheduled where scheduled.job_id = edit.id for update;
        exit when found;
        select blocked.job_id, 'blocked' as standing, blocked.lane, blocked.attempt, blocked.losses into place
        from pgqueue.blocked where blocked.job_id = edit.id for update;
        exit when found;
        -- Prefetched: its worker has not started it, and finds it gone when it wants to.
        select running.job_id, 'prefetched' as standing, running.lane, running.attempt, running.losses into place
        from pgqueue.running where running.job_id = edit.id and running.started_at is null for update;
        exit when found;
        if coalesce(pgqueue.status_of(edit.id), 'failed') not in ('pending', 'scheduled', 'blocked') then
            raise exception 'job % is %: only a job that waits can be edited', edit.id, pgqueue.status_of(edit.id)
                using errcode = 'restrict_violation';
        end if;
    end loop;
    if edit.arguments is not null and edit.gates is null
       and exists (select from generate_series(1, coalesce(cardinality(this.gates), 0) / 2) as number
                   where not (starts_with(this.gates[2 * number - 1], 'queue/') or starts_with(this.gates[2 * number - 1], 'rate/'))) then
        raise exception 'job % stands behind a limit or in an order that may come from its arguments, and its task is not declared here',
            edit.id using errcode = 'object_not_in_prerequisite_state';
    elsif edit.arguments is not null and this.hooks & 2 > 0 then
        raise exception 'job % takes an argument from the results of the jobs before it', edit.id
            using errcode = 'object_not_in_prerequisite_state';
    elsif edit.run_at is not null and place.standing <> 'scheduled' and (this.gates is not null or this.turn is not null) then
        raise exception 'job % has been let through by a limit, or stands in an order', edit.id
            using errcode = 'object_not_in_prerequisite_state';
    elsif edit.run_at is not null and place.standing = 'blocked' then
        raise exception 'job % waits for other jobs, and starts when these have ended', edit.id
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    if moves then
        to_lane := pgqueue.lane_of(edit.queue, coalesce(edit.priority, this.priority)::smallint);
        changed := changed || format('queue from %s to %s', this.queue, edit.queue);
    elsif edit.priority is not null then
        to_lane := pgqueue.lane_like(place.lane, edit.priority);
    end if;
    if edit.priority <> this.priority then
        changed := changed || format('priority from %s to %s', this.priority, edit.priority);
    end if;
    to_lane := coalesce(to_lane, place.lane);
    if edit.run_at is not null and place.standing <> 'scheduled' then
        delete from pgqueue.ready where job_id = edit.id;
        delete from pgqueue.running where job_id = edit.id and started_at is null;
        insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
        values (edit.id, edit.run_at, to_lane, place.attempt, place.losses);
    else
        update pgqueue.ready set lane = to_lane where job_id = edit.id and lane <> to_lane;
        update pgqueue.blocked set lane = to_lane where job_id = edit.id and lane <> to_lane;
        update pgqueue.running set lane = to_lane where job_id = edit.id and started_at is null and lane <> to_lane;
        update pgqueue.scheduled set lane = to_lane, scheduled_at = coalesce(edit.run_at, scheduled_at)
        where job_id = edit.id;
        -- One that its worker has prefetched was read with what it had then.
        if place.standing = 'prefetched' and (moves or edit.arguments is not null) then
            delete from pgqueue.running where job_id = edit.id and started_at is null;
            insert into pgqueue.ready (job_id, lane, attempt, losses) values (edit.id, to_lane, place.attempt, place.losses);
        end if;
    end if;
    if edit.run_at is not null then
        changed := changed || format('run time to %s', to_char(edit.run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'));
    end if;
    if edit.arguments is not null then
        changed := changed || 'arguments'::text;
    end if;
    update pgqueue.job
    set lane = case when moves then to_lane
                    when edit.priority is not null then pgqueue.lane_like(lane, edit.priority) else lane end,
        run_at = coalesce(edit.run_at, job.run_at), arguments = coalesce(edit.arguments, job.arguments)
    where job.id = edit.id;
    if moves or edit.arguments is not null then
        perform pgqueue.gate_anew(edit.id, pgqueue.gates_there(
            this.gates, pgqueue.read_gates(edit.gates), this.queue, coalesce(edit.queue, this.queue), edit.arguments is not null));
    end if;
    insert into pgqueue.note (node_id, kind, lane, low)
    select blocked.gate, 'gate', blocked.lane, blocked.turn from pgqueue.blocked
    where blocked.job_id = edit.id and blocked.gate is not null;
    insert into pgqueue.action (job_id, action, attempt, reason, actor)
    values (edit.id, 'edited', place.attempt,
            left(concat_ws(': ', nullif(array_to_string(changed, ', '), ''), edit.reason), 1000),
            coalesce(edit.actor, session_user));
    perform pg_notify('pgqueue', 'ready ' || to_lane) where pg_notification_queue_usage() < 0.9::float8;
end
$$;

-- Make a failed job pending again. `gates`: what it passes with its new arguments, a JSON list of pairs; null: it keeps its
-- keys. Raises for any other, and for an unknown id.
create function pgqueue.redrive_through(id uuid, gates json, queue text DEFAULT NULL::text, arguments json DEFAULT NULL::json, reset_attempts boolean DEFAULT true, reason text DEFAULT NULL::text, actor text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $$
declare
    lanes integer[];
    this record;
    flaw text := pgqueue.flaw_of_gates(redrive_through.gates);
begin
    perform pgqueue.check_text('pgqueue.redrive: actor', redrive_through.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.redrive: queue', redrive_through.queue, 200, 1);
    perform pgqueue.check_text('pgqueue.redrive: reason', redrive_through.reason, 1000, 0);
    perform pgqueue.hold_workflows(array[redrive_through.id]);
    perform pgqueue.lock_failed(redrive_through.id);
    if redrive_through.queue = '' or json_typeof(redrive_through.arguments) not in ('object', 'array') then
        raise exception 'pgqueue.redrive: job % needs a queue, and arguments that are an object or an array', redrive_through.id
            using errcode = 'invalid_parameter_value';
    end if;
    if flaw is not null then
        raise exception 'pgqueue.redrive: job %: %', redrive_through.id, flaw using errcode = 'invalid_parameter_value';
    end if;
    if redrive_through.gates is not null then
        select job.gates, lane.queue into this
        from pgqueue.job join pgqueue.lane on lane.id = job.lane where job.id = redrive_through.id;
        perform pgqueue.gate_anew(redrive_through.id, pgqueue.gates_there(
            this.gates, pgqueue.read_gates(redrive_through.gates), this.queue, coalesce(redrive_through.queue, this.queue),
            redrive_through.arguments is not null));
    end if;
    lanes := pgqueue.reopen(array[redrive_through.id], 'redriven', redrive_through.queue, redrive_through.arguments,
                            redrive_through.reset_attempts, redrive_through.reason, redrive_through.actor);
    perform pg_notify('pgqueue', 'attend')
    where (select job.hooks & 4 from pgqueue.job where job.id = redrive_through.id) > 0
      and pg_notification_queue_usage() < 0.9::float8;
    perform pg_notify('pgqueue', 'ready ' || lanes[1]) where pg_notification_queue_usage() < 0.9::float8;
end
$$;

-- For whoever does not know what a job passes. Workers of the version before call it.
create or replace function pgqueue.redrive(id uuid, queue text default null, arguments json default null, reset_attempts boolean default true, reason text default null, actor text default null)
returns void language sql set search_path to pg_catalog, pg_temp as $$
    select pgqueue.redrive_through(
        redrive.id, null, redrive.queue, redrive.arguments, redrive.reset_attempts, redrive.reason, redrive.actor)
$$;

-- See 0004. Those that come to another queue pass its limits, and no more those of their own.
CREATE OR REPLACE FUNCTION pgqueue.reopen(ids uuid[], action text, in_queue text DEFAULT NULL::text, new_arguments json DEFAULT NULL::json, reset_attempts boolean DEFAULT true, reason text DEFAULT NULL::text, actor text DEFAULT NULL::text)
 RETURNS integer[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $$
declare
    lanes integer[];
    limited uuid[];
    other record;
begin
    perform pgqueue.check_text('pgqueue.reopen: action', reopen.action, 200, 1);
    perform pgqueue.check_text('pgqueue.reopen: actor', reopen.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.reopen: in_queue', reopen.in_queue, 200, 1);
    perform pgqueue.check_text('pgqueue.reopen: reason', reopen.reason, 1000, 0);
    perform pgqueue.rearm(ids, reopen.actor);
    update pgqueue.lane set removed_at = null, idle_since = null
    where lane.removed_at is not null
      and lane.id = any(array(select job.lane from pgqueue.job where job.id = any(ids)));
    if in_queue is not null then
        perform pgqueue.lane_of(in_queue, lane.priority)
        from pgqueue.lane
        where lane.id = any(array(select job.lane from pgqueue.job where job.id = any(ids)));
        -- By the limits of that queue instead of those of their own.
        for other in
            select there.id, there.gates
            from (select job.id, job.gates as had, pgqueue.gates_there(job.gates, null, lane.queue, in_queue, false) as gates
                  from pgqueue.job join pgqueue.lane on lane.id = job.lane
                  where job.id = any(ids) and lane.queue <> in_queue
                  order by job.id) as there
            where there.gates is distinct from there.had
        loop
            perform pgqueue.gate_anew(other.id, other.gates);
        end loop;
    end if;
    with old as materialized (
        select job.id, job.attempt, job.hooks,
               case when in_queue is null then job.lane else (
                   select moved.id from pgqueue.lane as moved
                   join pgqueue.lane as had on had.id = job.lane
                   where moved.queue = in_queue and moved.priority = had.priority and moved.task = ''
               ) end as lane
        from pgqueue.job
        where job.id = any(ids)
    ),
    buried as (
        delete from pgqueue.dead_letter where job_id = any(ids)
    ),
    -- Of the old life; carried out now, it would end the new one.
    unasked as (
        delete from pgqueue.cancel_request where job_id = any(ids)
    ),
    noted as (
        insert into pgqueue.action (job_id, action, attempt, reason, actor)
        select old.id, reopen.action, coalesce(old.attempt, 0), reopen.reason, coalesce(reopen.actor, session_user)
        from old order by old.id
    ),
    opened as (
        update pgqueue.job
        set status       = null,
            started_at   = null,
            completed_at = null,
            -- A time that has passed would end it again at once.
            expires_at   = case when job.expires_at > now() then job.expires_at end,
            attempt      = null,
            worker       = null,
            result       = null,
            reason       = null,
            error        = null,
            lane         = old.lane,
            arguments    = coalesce(new_arguments, job.arguments)
        from old
        where job.id = old.id
          and job.id = any(ids)
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, attempt)
        select old.id, old.lane, case when reset_attempts then 0 else coalesce(old.attempt, 0) end
        from old order by old.id
        returning lane
    )
    select array(select distinct lane from queued), (select array_agg(old.id) from old where old.hooks & 4 > 0)
    into lanes, limited;
    if limited is not null then
        perform pgqueue.start_lines(limited);
        perform pgqueue.gate_in(limited);
    end if;
    return lanes;
end
$$;
