-- 0004 dead letters: what has failed is listed, grouped, redriven and discarded; what operators do is a row.
-- works with: 1
-- Workers may keep running: what those of the version before let fail becomes a dead letter too. Jobs
-- that have failed already are listed by one scan of `job`, while which attempts wait to be written.

alter table pgqueue.attempt add column version text;     -- of the code that ran it
alter table pgqueue.lease
    add column version text,
    add column tasks text[];                             -- that the worker knows; null: it does not say
alter table pgqueue.cancel_request
    add column reason text,
    add column actor text;

-- One row per operator's act on a job: 'cancelled', 'cancel_requested', 'redriven', 'discarded',
-- 'reprioritised'. Not among the attempts: those say how the job went.
create table pgqueue.action (
    id      bigint generated always as identity,
    job_id  uuid not null,
    at      timestamptz not null default now(),
    action  text not null,
    attempt integer,                      -- attempts spent by then
    reason  text,
    actor   text not null default session_user,
    primary key (job_id, id)
);

-- One row per job that has failed and that nobody has redriven or discarded: narrow, because lists and
-- groups read it and never the record itself.
create table pgqueue.dead_letter (
    job_id      uuid primary key,
    failed_at   timestamptz not null,
    task        text not null,
    queue       text not null,
    reason      text not null,
    fingerprint text collate "C" not null,-- alike for errors that differ in numbers, ids and quoted parts
    error_type  text,
    message     text,                     -- its first line, cut short
    attempt     integer not null,         -- attempts spent
    worker      text,
    version     text
);
create index dead_letter_failed_at on pgqueue.dead_letter (failed_at, job_id);
create index dead_letter_fingerprint on pgqueue.dead_letter (fingerprint, failed_at, job_id);

-- A message without what differs from one occurrence to the next.
create function pgqueue.normalised(message text) returns text
language sql immutable parallel safe as $$
    select regexp_replace(regexp_replace(regexp_replace(regexp_replace(
        left(message, 1000),
        -- A quote behind a letter is an apostrophe.
        '(^|[^[:alnum:]])(''[^'']*''|"[^"]*")', '\1?', 'g'),
        '\m[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\M', '?', 'gi'),
        '\m(0x[0-9a-f]+|(?=[a-f]*[0-9])[0-9a-f]{8,})\M', '?', 'gi'),
        '[0-9]+([.,:_-][0-9]+)*', '?', 'g')
$$;

-- What dead letters of one cause have in common.
create function pgqueue.fingerprint(task text, reason text, error_type text, message text) returns text
language sql immutable parallel safe as $$
    select left(encode(sha256(convert_to(
        task || chr(31) || reason || chr(31) || coalesce(error_type, '') || chr(31)
        || coalesce(pgqueue.normalised(message), ''), 'UTF8')), 'hex'), 16)
$$;

-- The dead letters of those of `ids` that have failed.
create function pgqueue.describe_dead(ids uuid[]) returns setof pgqueue.dead_letter
language sql stable as $$
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
    where job.id = any(ids) and job.status = 'failed'
$$;

-- Every way to fail writes an attempt in the statement that fails the job; so this is part of that statement,
-- whoever sent it. Successes write no attempt and do not come here.
create function pgqueue.enter_dead_letters() returns trigger
language plpgsql as $$
declare
    ids uuid[] := array(select job_id from fresh where reason <> 'released');
begin
    if ids <> '{}' then
        insert into pgqueue.dead_letter select * from pgqueue.describe_dead(ids) on conflict (job_id) do nothing;
    end if;
    return null;
end
$$;
create trigger enter_dead_letters after insert on pgqueue.attempt
    referencing new table as fresh for each statement execute function pgqueue.enter_dead_letters();

insert into pgqueue.dead_letter
select * from pgqueue.describe_dead(array(select id from pgqueue.job where status = 'failed'));

-- Dead letters that `filter` takes in (an object of task, queue, reason, fingerprint, error_type,
-- failed_after, failed_before), by their times, behind (`at`, `id`).
create function pgqueue.find_dead_letters(
    filter json, at timestamptz, id uuid, newest_first boolean, most integer
) returns setof pgqueue.dead_letter language plpgsql stable as $$
declare
    narrowed text := '';
    name text;
begin
    foreach name in array array['task', 'queue', 'reason', 'fingerprint', 'error_type'] loop
        if filter ->> name is not null then
            narrowed := narrowed || format(' and %I = %L', name, filter ->> name);
        end if;
    end loop;
    if filter ->> 'failed_after' is not null then
        narrowed := narrowed || format(' and failed_at >= %L', (filter ->> 'failed_after')::timestamptz);
    end if;
    if filter ->> 'failed_before' is not null then
        narrowed := narrowed || format(' and failed_at < %L', (filter ->> 'failed_before')::timestamptz);
    end if;
    if at is not null then
        narrowed := narrowed || format(' and (failed_at, job_id) %s (%L, %L)',
                                       case when newest_first then '<' else '>' end, at, id);
    end if;
    -- Put together, so that each filter gets the index that serves it.
    return query execute format(
        'select * from pgqueue.dead_letter where true %1$s order by failed_at %2$s, job_id %2$s limit %3$s',
        narrowed, case when newest_first then 'desc' else 'asc' end, most);
end
$$;

-- Open a new generation of the terminal jobs `ids`, whose records the caller has locked: each is pending
-- again under its id, and its history stays. Returns their lanes.
create function pgqueue.reopen(
    ids uuid[], action text, in_queue text default null, new_arguments json default null,
    reset_attempts boolean default true, reason text default null, actor text default null
) returns integer[] language plpgsql as $$
declare
    lanes integer[];
begin
    if in_queue is not null then
        perform pgqueue.lane_of(in_queue, lane.priority)
        from pgqueue.lane
        where lane.id = any(array(select job.lane from pgqueue.job where job.id = any(ids)));
    end if;
    with old as materialized (
        select job.id, job.attempt,
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
    select array(select distinct lane from queued) into lanes;
    return lanes;
end
$$;

-- Make a failed job pending again. Raises for any other, and for an unknown id.
create function pgqueue.redrive(
    id uuid, queue text default null, arguments json default null, reset_attempts boolean default true,
    reason text default null, actor text default null
) returns void language plpgsql as $$
declare
    lanes integer[];
begin
    perform pgqueue.lock_failed(redrive.id);
    if redrive.queue = '' or json_typeof(redrive.arguments) not in ('object', 'array') then
        raise exception 'pgqueue.redrive: job % needs a queue, and arguments that are an object or an array', redrive.id
            using errcode = 'invalid_parameter_value';
    end if;
    lanes := pgqueue.reopen(array[redrive.id], 'redriven', redrive.queue, redrive.arguments,
                            redrive.reset_attempts, redrive.reason, redrive.actor);
    perform pg_notify('pgqueue', 'ready ' || lanes[1]);
end
$$;

-- Lock a failed job's record. Raises if it has not failed, or is not there.
create function pgqueue.lock_failed(id uuid) returns void language plpgsql as $$
declare
    found_status pgqueue.job_status;
begin
    select job.status into found_status from pgqueue.job where job.id = lock_failed.id for update;
    if not found then
        raise exception 'there is no job %', lock_failed.id using errcode = 'no_data_found';
    elsif found_status is distinct from 'failed' then
        raise exception 'job % is %: only a job that has failed is redriven or discarded',
            lock_failed.id, pgqueue.status_of(lock_failed.id) using errcode = 'restrict_violation';
    end if;
end
$$;

-- Take a failed job out of the dead letters; it stays failed. False: it had been taken out before.
create function pgqueue.discard(id uuid, reason text default null, actor text default null) returns boolean
language plpgsql as $$
begin
    perform pgqueue.lock_failed(discard.id);
    return pgqueue.bury(array[discard.id], discard.reason, discard.actor) = 1;
end
$$;

-- Take `ids` out of the dead letters; returns how many of them were in it.
create function pgqueue.bury(ids uuid[], reason text, actor text) returns integer
language plpgsql as $$
declare
    taken integer;
begin
    with gone as (
        delete from pgqueue.dead_letter where job_id = any(ids) returning job_id, attempt
    ),
    noted as (
        insert into pgqueue.action (job_id, action, attempt, reason, actor)
        select job_id, 'discarded', attempt, bury.reason, coalesce(bury.actor, session_user) from gone order by job_id
        returning 1
    )
    select count(*) into taken from noted;
    return taken;
end
$$;

-- A redrive of all dead letters that a filter takes in, at so many a second. Workers carry it on: whoever
-- asked for it need not stay.
create table pgqueue.mass_redrive (
    id             uuid primary key,
    filter         json not null,         -- as find_dead_letters takes it; failed_before ends it
    rate           float8 not null check (rate > 0),
    queue          text,                  -- null: each job's own
    reset_attempts boolean not null,
    reason         text,
    actor          text not null default session_user,
    state          text not null default 'running' check (state in ('running', 'done', 'cancelled')),
    total          bigint not null,       -- dead letters at the start; capped
    done           bigint not null default 0,
    reached_at     timestamptz,           -- the dead letter that it has come to
    reached_id     uuid,
    created_at     timestamptz not null default now(),
    carried_at     timestamptz not null default now(),
    ended_at       timestamptz
);
create index mass_redrive_running on pgqueue.mass_redrive (carried_at) where state = 'running';

-- Begin a mass redrive. Only what has failed before now: what fails again stays a dead letter.
create function pgqueue.begin_redrive(
    id uuid, filter json, rate float8, queue text, reset_attempts boolean, reason text, actor text, cap integer
) returns void language plpgsql as $$
declare
    ended json := (filter::jsonb || jsonb_build_object('failed_before', least(
        (filter ->> 'failed_before')::timestamptz, now())))::json;
begin
    insert into pgqueue.mass_redrive (id, filter, rate, queue, reset_attempts, reason, actor, total)
    select begin_redrive.id, ended, begin_redrive.rate, begin_redrive.queue, begin_redrive.reset_attempts,
           begin_redrive.reason, coalesce(begin_redrive.actor, session_user), count(*)
    from pgqueue.find_dead_letters(ended, null, null, false, cap)
    -- Begun already by a try whose answer was lost.
    on conflict on constraint mass_redrive_pkey do nothing;
end
$$;

-- Carry one mass redrive on by what its rate allows since it was last carried on, and at most once a second:
-- its row is written each time. Returns the lanes of the jobs, and whether the redrive is there to be
-- carried on; no row: there is none, or others are at it.
create function pgqueue.carry_redrive(most integer) returns table (moved integer, lanes integer[])
language plpgsql as $$
declare
    this pgqueue.mass_redrive;
    seconds float8;
    allowed integer;
    picked uuid[];
    last_at timestamptz;
    last_id uuid;
begin
    select * into this from pgqueue.mass_redrive
    where state = 'running' and carried_at <= now() - interval '1 second'
    order by carried_at
    limit 1
    for update skip locked;
    if not found then
        return;
    end if;
    -- What was not carried on for a while is not made up for at once.
    seconds := least(extract(epoch from now() - this.carried_at), greatest(2, 1 / this.rate));
    allowed := least(floor(this.rate * seconds), most);
    if allowed < 1 then
        return;
    end if;
    select array_agg(letter.job_id order by letter.failed_at, letter.job_id),
           (array_agg(letter.failed_at order by letter.failed_at desc, letter.job_id desc))[1],
           (array_agg(letter.job_id order by letter.failed_at desc, letter.job_id desc))[1]
    into picked, last_at, last_id
    from pgqueue.find_dead_letters(this.filter, this.reached_at, this.reached_id, false, allowed) as letter;
    -- The records first, as every redrive and discard does, in one order. Whoever else redrives or discards
    -- one of them meanwhile is waited for, and has it: its dead letter is gone.
    perform from pgqueue.job where job.id = any(picked) order by job.id for update;
    picked := array(
        select letter.job_id from pgqueue.dead_letter as letter
        where letter.job_id = any(picked) and letter.failed_at < (this.filter ->> 'failed_before')::timestamptz
    );
    lanes := pgqueue.reopen(picked, 'redriven', this.queue, null, this.reset_attempts, this.reason, this.actor);
    moved := cardinality(picked);
    update pgqueue.mass_redrive
    set done       = done + moved,
        reached_at = coalesce(last_at, reached_at),
        reached_id = coalesce(last_id, reached_id),
        -- What is left of a job's share of time counts for the next.
        carried_at = now() - (seconds - allowed / this.rate) * interval '1 second',
        state      = case when last_id is null then 'done' else 'running' end,
        ended_at   = case when last_id is null then now() end
    where mass_redrive.id = this.id;
    return next;
end
$$;

-- Discard up to `most` dead letters that `filter` takes in, oldest first. Returns how many.
create function pgqueue.discard_some(filter json, most integer, reason text, actor text) returns integer
language plpgsql as $$
declare
    picked uuid[] := array(
        select letter.job_id from pgqueue.find_dead_letters(filter, null, null, false, most) as letter);
begin
    perform from pgqueue.job where job.id = any(picked) order by job.id for update;
    return pgqueue.bury(picked, reason, actor);
end
$$;

-- Cancel, as before; and note who did it and why.
drop function pgqueue.cancel(uuid, text);
create function pgqueue.cancel(id uuid, reason text default null, actor text default null) returns text
language plpgsql as $$
declare
    spent integer;
    answer text;
begin
    perform from pgqueue.job where job.id = cancel.id for update;
    -- A job goes round scheduled, ready, running while we look: look again until it is found
    -- or is terminal.
    loop
        delete from pgqueue.ready where job_id = cancel.id returning attempt into spent;
        if not found then
            delete from pgqueue.scheduled where job_id = cancel.id returning attempt into spent;
        end if;
        if not found then
            delete from pgqueue.blocked where job_id = cancel.id returning attempt into spent;
        end if;
        if not found then
            -- Prefetched: its worker has not started it, and finds it gone when it wants to.
            delete from pgqueue.running where job_id = cancel.id and started_at is null
                returning attempt into spent;
        end if;
        if found then
            update pgqueue.job
            set status = 'cancelled', completed_at = now(), attempt = nullif(spent, 0), reason = cancel.reason
            where job.id = cancel.id;
            answer := 'cancelled';
            exit;
        end if;
        insert into pgqueue.cancel_request (job_id, lease_id, reason, actor)
        select running.job_id, running.lease_id, cancel.reason, cancel.actor
        from pgqueue.running where running.job_id = cancel.id
        on conflict (job_id) do update
        set lease_id = excluded.lease_id, reason = excluded.reason, actor = excluded.actor;
        if found then
            select running.attempt into spent from pgqueue.running where running.job_id = cancel.id;
            answer := 'requested';
            exit;
        end if;
        if coalesce(pgqueue.status_of(cancel.id), 'failed') in ('succeeded', 'failed', 'cancelled', 'expired') then
            return null;
        end if;
    end loop;
    insert into pgqueue.action (job_id, action, attempt, reason, actor)
    values (cancel.id, case answer when 'cancelled' then answer else 'cancel_requested' end,
            coalesce(spent, 0), cancel.reason, coalesce(cancel.actor, session_user));
    return answer;
end
$$;

-- The lane like `given` at another priority; made if it is new.
create function pgqueue.lane_like(given integer, at_priority integer) returns integer language plpgsql as $$
declare
    found_id integer;
begin
    loop
        select alike.id into found_id
        from pgqueue.lane as had
        join pgqueue.lane as alike on alike.queue = had.queue and alike.task = had.task
        where had.id = given and alike.priority = at_priority;
        if found then
            return found_id;
        end if;
        insert into pgqueue.lane (queue, priority, task)
        select queue, at_priority, task from pgqueue.lane where lane.id = given
        on conflict (queue, priority, task) do nothing;
    end loop;
end
$$;

-- Give a job that waits another priority. Among jobs of that priority it has the place that it was queued at.
-- Raises for a job that is running or terminal, and for an unknown id.
create function pgqueue.reprioritise(
    id uuid, priority integer, reason text default null, actor text default null
) returns void language plpgsql as $$
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
    perform pg_notify('pgqueue', 'ready ' || waits_in);
end
$$;

-- Move one job by hand, as before; an attempt that does not succeed, and every failure, is an attempt row.
-- A job that is or becomes running needs the lease that holds it: `holder` is the fence.
create or replace function pgqueue.transition(
    id uuid, after pgqueue.job_status, holder uuid default null, reason text default null,
    at timestamptz default now()
) returns void language plpgsql as $$
declare
    before pgqueue.job_status;
    spent integer;
    lost integer;
    in_lane integer;
    place bigint;
    since timestamptz;
    first_start timestamptz;
begin
    -- The record first: two hands on one job take turns.
    perform from pgqueue.job where job.id = transition.id for update;
    if not found then
        raise exception 'there is no job %', transition.id using errcode = 'no_data_found';
    end if;
    before := pgqueue.status_of(transition.id);
    if not coalesce(pgqueue.is_legal_transition(before, after), false) then
        raise exception 'job % is %: it cannot become %', transition.id, coalesce(before::text, 'nowhere'), after
            using errcode = 'restrict_violation';
    end if;
    delete from pgqueue.ready where job_id = transition.id
        returning ready.attempt, ready.losses, ready.lane, ready.position, ready.ready_at
        into spent, lost, in_lane, place, since;
    if not found then
        delete from pgqueue.scheduled where job_id = transition.id
            returning scheduled.attempt, scheduled.losses, scheduled.lane into spent, lost, in_lane;
    end if;
    if not found then
        delete from pgqueue.blocked where job_id = transition.id
            returning blocked.attempt, blocked.losses, blocked.lane into spent, lost, in_lane;
    end if;
    if not found then
        delete from pgqueue.running where job_id = transition.id and lease_id = holder
            returning running.attempt, running.losses, running.lane, running.position, running.started_at
            into spent, lost, in_lane, place, first_start;
    end if;
    if not found then
        raise exception 'job % is %, but not under lease %', transition.id, before, holder
            using errcode = 'restrict_violation';
    end if;
    case after
        when 'pending' then
            insert into pgqueue.ready (job_id, lane, position, attempt, losses)
            values (transition.id, in_lane, coalesce(place, nextval('pgqueue.position')),
                    spent - (before = 'running')::integer, lost);
        when 'scheduled' then
            insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
            values (transition.id, transition.at, in_lane, spent, lost);
        when 'blocked' then
            insert into pgqueue.blocked (job_id, lane, attempt, losses)
            values (transition.id, in_lane, spent - (before = 'running')::integer, lost);
        when 'running' then
            perform from pgqueue.lease where lease.id = holder and expires_at > now() for key share;
            if not found then
                raise exception 'there is no lease % to run job % under', holder, transition.id
                    using errcode = 'restrict_violation';
            end if;
            insert into pgqueue.running (job_id, lease_id, ready_at, started_at, position, lane, attempt, losses)
            values (transition.id, holder, coalesce(since, now()), now(),
                    coalesce(place, nextval('pgqueue.position')), in_lane, spent + 1, lost);
        else
            update pgqueue.job
            set status = after, completed_at = greatest(now(), first_start), attempt = nullif(spent, 0),
                started_at = coalesce(job.started_at, first_start), reason = transition.reason
            where job.id = transition.id;
    end case;
    if after = 'failed' or (before = 'running' and after <> 'succeeded') then
        insert into pgqueue.attempt (job_id, attempt, started_at, worker, reason)
        values (transition.id, spent, first_start,
                (select lease.worker from pgqueue.lease where lease.id = holder),
                coalesce(transition.reason, after::text));
    end if;
end
$$;
