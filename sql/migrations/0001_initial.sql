-- 0001 initial: the split layout. A job's record is in `job`; a live job is also in exactly
-- one of `ready`, `running`, `scheduled`, `blocked`.
-- works with: 1
-- Workers may keep running: there are none before this.

create type pgqueue.job_status as enum (
    'pending', 'scheduled', 'blocked', 'running', 'succeeded', 'failed', 'cancelled', 'expired'
);

-- A lane is a FIFO: one queue at one priority. A lane with a task holds what workers that did
-- not know this task have put aside; only workers that know it walk such a lane.
create table pgqueue.lane (
    id       integer generated always as identity primary key,
    queue    text not null check (length(queue) between 1 and 200),
    priority smallint not null,
    task     text not null default '',
    unique (queue, priority, task)
);

-- The record. Written at enqueue and at the end; claiming does not touch it. Its only index is
-- the primary key and its pages keep room, so that the second write is a HOT update.
-- `status` is null until the job is terminal: where a live job stands is said by the table it is in.
create table pgqueue.job (
    id           uuid not null,
    created_at   timestamptz not null default now(),
    run_at       timestamptz,             -- the earliest start that the caller asked for
    expires_at   timestamptz,             -- not started by then: expired
    started_at   timestamptz,             -- of the first attempt
    completed_at timestamptz,
    lane         integer not null,
    attempt      integer,                 -- the last attempt's number, 1-based
    status       pgqueue.job_status
                 check (status in ('succeeded', 'failed', 'cancelled', 'expired')),
    task         text not null,
    arguments    json not null,           -- object: by name, with "*" for positional ones; array: positional
    options      json,                    -- what this call set itself; the rest is the task's
    headers      json,
    tags         text[],
    key          text,
    worker       text,
    result       json,                    -- SQL null: none kept; JSON null: the handler returned None
    reason       text,                    -- why it did not succeed: a code
    error        json,                    -- {type, message, traceback}
    primary key (id)
) partition by range (id);

-- Takes ids that no other partition covers: ids that are not UUIDv7, and times for which
-- maintenance has made no partition.
create table pgqueue.job_default partition of pgqueue.job default with (fillfactor = 70);

create sequence pgqueue.position;

create table pgqueue.ready (
    job_id   uuid primary key,
    ready_at timestamptz not null default now(),
    position bigint not null default nextval('pgqueue.position'),
    lane     integer not null,
    attempt  integer not null default 0,  -- attempts spent
    losses   integer not null default 0   -- attempts cut short by the loss of a worker
);
create index ready_lane_position on pgqueue.ready (lane, position);

create table pgqueue.running (
    job_id     uuid primary key,
    lease_id   uuid not null,             -- the fence: client-made and random
    ready_at   timestamptz not null,
    claimed_at timestamptz not null default now(),
    started_at timestamptz,               -- null: prefetched, not started
    position   bigint not null,
    lane       integer not null,
    attempt    integer not null,          -- attempts spent, this one too once it has started
    losses     integer not null
);
create index running_prefetched on pgqueue.running (lane, position) where started_at is null;

create table pgqueue.scheduled (
    job_id       uuid primary key,
    scheduled_at timestamptz not null,
    lane         integer not null,
    attempt      integer not null default 0,
    losses       integer not null default 0
);
create index scheduled_scheduled_at on pgqueue.scheduled (scheduled_at);

create table pgqueue.blocked (
    job_id     uuid primary key,
    blocked_at timestamptz not null default now(),
    lane       integer not null,
    attempt    integer not null default 0,
    losses     integer not null default 0
);

-- One row per attempt that did not succeed.
create table pgqueue.attempt (
    id         bigint generated always as identity,
    job_id     uuid not null,
    attempt    integer not null,
    started_at timestamptz,
    ended_at   timestamptz not null default now(),
    worker     text,
    reason     text not null,
    error      json,
    primary key (job_id, id)
);

-- One row per worker process, renewed on a timer.
create table pgqueue.lease (
    id         uuid primary key,
    worker     text not null,
    queues     text[] not null,
    prefetch   integer not null default 0,
    lock_key   bigint,                    -- advisory lock held while the process lives; null behind a pooler
    max_losses json not null default '{}',-- task: losses allowed, where it is not the default
    started_at timestamptz not null default now(),
    renewed_at timestamptz not null default now(),
    expires_at timestamptz not null
);

-- Asks the worker that runs a job to cancel it.
create table pgqueue.cancel_request (
    job_id       uuid primary key,
    lease_id     uuid not null,
    requested_at timestamptz not null default now()
);

-- Queue tables turn over completely within seconds: vacuum them by count, not by fraction,
-- and without pauses.
alter table pgqueue.ready set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000, autovacuum_vacuum_cost_delay = 0);
alter table pgqueue.running set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000, autovacuum_vacuum_cost_delay = 0);

-- The transition table: which status may follow which. `null` stands before the first.
create function pgqueue.is_legal_transition(before pgqueue.job_status, after pgqueue.job_status)
returns boolean language sql immutable parallel safe as $$
    select case before
        when 'pending'   then after in ('running', 'scheduled', 'blocked', 'cancelled', 'expired', 'failed')
        when 'scheduled' then after in ('pending', 'blocked', 'cancelled', 'expired')
        when 'blocked'   then after in ('pending', 'scheduled', 'cancelled', 'expired', 'failed')
        when 'running'   then after in ('pending', 'scheduled', 'blocked', 'succeeded', 'failed', 'cancelled')
        else false
    end
$$;

-- Where a job stands. One primary-key read of each table, whatever their size.
create function pgqueue.status_of(id uuid) returns pgqueue.job_status
language sql stable as $$
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
$$;

-- Jobs move by pgqueue's own statements, which say so with the setting pgqueue.writer. Anything
-- else that would move or finish one is refused: it would have no fence.
create function pgqueue.refuse_move() returns trigger language plpgsql as $$
begin
    raise exception 'pgqueue.% is not written by hand: call pgqueue.transition(job_id, status) or pgqueue.cancel(job_id)',
        tg_table_name using errcode = 'restrict_violation';
end
$$;

-- A hand-written insert may queue a job that stands nowhere yet, and nothing else.
create function pgqueue.refuse_second_place() returns trigger language plpgsql as $$
declare
    found_status pgqueue.job_status;
    places integer;
begin
    select job.status,
           (select count(*) from pgqueue.ready where job_id = new.job_id)
           + (select count(*) from pgqueue.running where job_id = new.job_id)
           + (select count(*) from pgqueue.scheduled where job_id = new.job_id)
           + (select count(*) from pgqueue.blocked where job_id = new.job_id)
    into found_status, places
    from pgqueue.job where id = new.job_id;
    if not found then
        raise exception 'pgqueue.%: there is no job %', tg_table_name, new.job_id
            using errcode = 'foreign_key_violation';
    elsif found_status is not null then
        raise exception 'pgqueue.%: job % is % and stays so', tg_table_name, new.job_id, found_status
            using errcode = 'restrict_violation';
    elsif places > 1 then
        raise exception 'pgqueue.%: job % is queued already', tg_table_name, new.job_id
            using errcode = 'restrict_violation';
    end if;
    return null;
end
$$;

-- Once per statement: a row trigger before update or delete would lock every row once more and
-- cost a worker a quarter of its throughput (measured).
create trigger refuse_move before update or delete on pgqueue.job for each statement
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_move();
-- The trigger of a partitioned table is not its partitions': make_partition gives each its own.
create trigger refuse_move before update or delete on pgqueue.job_default for each statement
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_move();
create trigger refuse_move before insert or update or delete on pgqueue.running for each statement
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_move();
create trigger refuse_move before update or delete on pgqueue.ready for each statement
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_move();
create trigger refuse_move before update or delete on pgqueue.scheduled for each statement
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_move();
create trigger refuse_move before update or delete on pgqueue.blocked for each statement
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_move();
create trigger refuse_second_place after insert on pgqueue.ready for each row
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_second_place();
create trigger refuse_second_place after insert on pgqueue.scheduled for each row
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_second_place();
create trigger refuse_second_place after insert on pgqueue.blocked for each row
    when (current_setting('pgqueue.writer', true) is distinct from 'on') execute function pgqueue.refuse_second_place();

-- Move one job by hand, as the transition table allows; anything else raises and changes nothing.
-- A job that is or becomes running needs the lease that holds it: `holder` is the fence.
create function pgqueue.transition(
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
end
$$;

-- Cancel a job. Answers 'cancelled': it never runs; 'requested': its worker is asked to stop it;
-- null: it was terminal already, or there is no such job.
create function pgqueue.cancel(id uuid, reason text default null) returns text
language plpgsql as $$
declare
    spent integer;
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
            return 'cancelled';
        end if;
        insert into pgqueue.cancel_request (job_id, lease_id)
        select running.job_id, running.lease_id from pgqueue.running where running.job_id = cancel.id
        on conflict (job_id) do update set lease_id = excluded.lease_id;
        if found then
            return 'requested';
        end if;
        if coalesce(pgqueue.status_of(cancel.id), 'failed') in ('succeeded', 'failed', 'cancelled', 'expired') then
            return null;
        end if;
    end loop;
end
$$;

-- The lane of a queue and priority; made if it is new.
create function pgqueue.lane_of(in_queue text, at_priority smallint) returns integer
language plpgsql as $$
declare
    found_id integer;
begin
    select id into found_id from pgqueue.lane where queue = in_queue and priority = at_priority and task = '';
    if not found then
        insert into pgqueue.lane (queue, priority) values (in_queue, at_priority)
        on conflict (queue, priority, task) do nothing;
        select id into strict found_id from pgqueue.lane
        where queue = in_queue and priority = at_priority and task = '';
    end if;
    return found_id;
end
$$;

-- A UUIDv7 (RFC 9562, section 5.7) of the database's clock.
create function pgqueue.uuid7() returns uuid language sql volatile as $$
    select encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                    from 1 for 6),
            52, 1), 53, 1), 'hex')::uuid
$$;

-- Enqueue from SQL: part of the caller's transaction. `arguments` is an object by parameter name
-- or an array by position; the worker validates it.
create function pgqueue.enqueue(
    task text, arguments json default '{}', queue text default 'default', priority integer default 0,
    run_at timestamptz default null, delay interval default null,
    expires_at timestamptz default null, tags text[] default null, key text default null,
    id uuid default null
) returns uuid language plpgsql as $$
declare
    new_id uuid := coalesce(enqueue.id, pgqueue.uuid7());
    new_lane integer;
    start_at timestamptz := coalesce(enqueue.run_at, now() + enqueue.delay);
begin
    if coalesce(enqueue.task, '') = '' or coalesce(enqueue.queue, '') = '' then
        raise exception 'pgqueue.enqueue: a job needs a task and a queue' using errcode = 'invalid_parameter_value';
    end if;
    if json_typeof(enqueue.arguments) is distinct from 'object' and json_typeof(enqueue.arguments) is distinct from 'array' then
        raise exception 'pgqueue.enqueue: the arguments of task % are neither an object nor an array', enqueue.task
            using errcode = 'invalid_parameter_value';
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

-- Every job with its status. Lane and lease are looked up by key, one at a time: as joins, they would be
-- hashed whole for each job that is read.
create view pgqueue.jobs as
select job.id, stands.status,
       (select lane.queue from pgqueue.lane where lane.id = job.lane) as queue,
       (select lane.priority from pgqueue.lane where lane.id = job.lane) as priority,
       job.task, job.arguments,
       coalesce(job.attempt, running.attempt, ready.attempt, scheduled.attempt, blocked.attempt, 0) as attempt,
       coalesce(running.losses, ready.losses, scheduled.losses, blocked.losses, 0) as losses,
       job.created_at, coalesce(job.started_at, running.started_at) as started_at, job.completed_at,
       scheduled.scheduled_at as next_run_at, job.run_at, job.expires_at,
       coalesce(job.worker, (select lease.worker from pgqueue.lease where lease.id = running.lease_id)) as worker,
       job.result, job.reason, job.error, last.reason as last_reason, last.error as last_error,
       job.options, job.headers, job.tags, job.key
from pgqueue.job
left join pgqueue.ready on ready.job_id = job.id
left join pgqueue.running on running.job_id = job.id
left join pgqueue.scheduled on scheduled.job_id = job.id
left join pgqueue.blocked on blocked.job_id = job.id
left join lateral (
    select attempt.reason, attempt.error
    from pgqueue.attempt
    where attempt.job_id = job.id
    order by attempt.id desc
    limit 1
) as last on true
cross join lateral (
    select case
        when job.status is not null then job.status
        when running.started_at is not null then 'running'
        when running.job_id is not null or ready.job_id is not null then 'pending'
        when scheduled.job_id is not null then 'scheduled'
        when blocked.job_id is not null then 'blocked'
    end::pgqueue.job_status as status
) as stands;

-- Make the partition of `job` for the day that holds `moment`. Ids are UUIDv7, so a day is a
-- range of ids. False: it is there already, or the default partition holds jobs of that day
-- (they stay there; a day without its own partition is slower to remove, and nothing else).
create function pgqueue.make_partition(moment timestamptz) returns boolean
language plpgsql set lock_timeout to '200ms' as $$
declare
    first_ms bigint := floor(extract(epoch from date_trunc('day', moment, 'UTC')) * 1000);
    day_ms constant bigint := 24 * 60 * 60 * 1000;
    low uuid := (rpad(lpad(to_hex(first_ms), 12, '0'), 32, '0'))::uuid;
    high uuid := (rpad(lpad(to_hex(first_ms + day_ms), 12, '0'), 32, '0'))::uuid;
    partition text := 'job_' || to_char(moment at time zone 'UTC', 'YYYYMMDD');
begin
    if to_regclass('pgqueue.' || partition) is not null
       or exists (select from pgqueue.job_default where id >= low and id < high) then
        return false;
    end if;
    execute format(
        'create table pgqueue.%I partition of pgqueue.job for values from (%L) to (%L) with (fillfactor = 70)',
        partition, low, high);
    execute format(
        'create trigger refuse_move before update or delete on pgqueue.%I for each statement '
        'when (current_setting(%L, true) is distinct from %L) execute function pgqueue.refuse_move()',
        partition, 'pgqueue.writer', 'on');
    return true;
exception
    -- Somebody else made it, or `job` is busy: the next round tries again.
    when duplicate_table or lock_not_available or check_violation or deadlock_detected then
        return false;
end
$$;

insert into pgqueue.lane (queue, priority) values ('default', 0);
