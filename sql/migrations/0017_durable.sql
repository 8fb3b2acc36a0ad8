-- 0017 durable: jobs that wait for a time, an event or other jobs, and hold nothing meanwhile.
-- works with: 1
-- Workers may keep running: they have no job wait, and leave those that do alone.
--
-- A job that waits is blocked; its handler begins anew when the wait is over, and its steps answer from the store.
-- Whoever sends an event locks the record of its job before it looks whether that waits, and whoever has a job wait
-- locks it before it looks whether the event is there: one of them sees the other. In a caller's transaction an event is
-- only written, because that lock would keep the job from ending until the commit; `is_new` has the upkeep look.

alter table pgqueue.blocked add column position bigint;     -- where it stood in its lane; null: it comes last
alter table pgqueue.blocked add column wake_at timestamptz; -- its wait is over then; null: no time ends it
alter table pgqueue.blocked add column waits text;          -- the event that it waits for; null: for none
create index blocked_wake_at on pgqueue.blocked (wake_at) where wake_at is not null;

create table pgqueue.event (
    id       bigint generated always as identity primary key,
    job_id   uuid not null,
    name     text not null check (length(name) between 1 and 200),
    dedup    text check (length(dedup) between 1 and 255),
    payload  json not null,
    sent_at  timestamptz not null default now(),
    is_new   boolean not null default false,  -- nobody has looked whether its job waits for it
    is_taken boolean not null default false   -- its job has had it; it is kept so that it is known when it comes again
);
create unique index event_dedup on pgqueue.event (job_id, name, dedup);
create index event_new on pgqueue.event (id) where is_new;

create or replace function pgqueue.tables_about_jobs() returns text[] language sql stable
return array(
    select known.name
    from unnest(array['attempt', 'action', 'step', 'progress', 'dead_letter', 'cancel_request', 'expiry', 'event'])
        as known (name)
    where to_regclass('pgqueue.' || known.name) is not null);

-- Move blocked jobs on, as before; those that had started keep their positions.
create or replace function pgqueue.to_ready(ids uuid[]) returns integer[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    lanes integer[];
begin
    with free as materialized (
        select job.id, job.run_at
        from pgqueue.job
        where job.id = any(ids)
          and (select workflow.paused_at from pgqueue.workflow where workflow.id = job.workflow_id) is null
    ),
    moved as (
        delete from pgqueue.blocked
        where job_id = any(array(select id from free)) and waits_for is null
        returning job_id, lane, attempt, losses, delay, position
    ),
    timed as materialized (
        select moved.*, coalesce(now() + moved.delay, free.run_at) as starts_at
        from moved join free on free.id = moved.job_id
    ),
    waiting as (
        insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
        select job_id, starts_at, lane, attempt, losses from timed where starts_at > now()
        on conflict do nothing
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, attempt, losses, position)
        select job_id, lane, attempt, losses, coalesce(position, nextval('pgqueue.position'))
        from timed where (starts_at > now()) is not true order by job_id
        on conflict do nothing
        returning lane
    )
    select array(select distinct lane from queued) into lanes;
    return lanes;
end
$$;

-- Have running jobs of lease `holder` wait: each until its time, until its event is there, or until its jobs and joins
-- in `awaited`, a list of lists, have ended. What has come meanwhile makes it pending at once. Its attempt does not
-- count, its position is kept, and its time to start and to be retried in counts from when it goes on. Returns those
-- that this lease still held, and lanes with new ready jobs.
create function pgqueue.suspend(
    holder uuid, ids uuid[], times timestamptz[], events text[], awaited json, out suspended uuid[], out lanes integer[]
) language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    nodes uuid[] := array(
        select distinct node::uuid
        from json_array_elements(awaited) as list cross join lateral json_array_elements_text(list) as node);
    given record;
    held record;
    live uuid[];
    join_id uuid;
begin
    suspended := '{}';
    lanes := '{}';
    if nodes <> '{}' then
        perform pgqueue.hold_workflows(nodes);
    end if;
    perform from pgqueue.job where job.id = any(ids || nodes) order by job.id for update;
    -- From here on a new snapshot: what was sent, or has ended, while this waited is seen.
    for given in
        select * from rows from (unnest(ids, times, events), json_array_elements(awaited))
            as wait (id, until, event, nodes)
    loop
        delete from pgqueue.running
        where running.job_id = given.id and running.lease_id = holder
        returning running.* into held;
        continue when not found;
        suspended := suspended || held.job_id;
        update pgqueue.job set started_at = null, expires_at = null
        where job.id = held.job_id and (job.started_at is not null or job.expires_at is not null);
        nodes := array(select json_array_elements_text(given.nodes)::uuid);
        live := array(
            select node.id from unnest(nodes) as node (id)
            where (select job.status is null from pgqueue.job where job.id = node.id)
               or (select barrier.is_join and barrier.state is null from pgqueue.barrier where barrier.id = node.id));
        if given.until <= clock_timestamp()
           or (nodes <> '{}' and live = '{}')
           or exists (
               select from pgqueue.event
               where event.job_id = held.job_id and event.name = given.event and not event.is_taken)
        then
            insert into pgqueue.ready (job_id, lane, attempt, losses, position)
            values (held.job_id, held.lane, held.attempt - 1, held.losses, held.position);
            lanes := lanes || held.lane;
            continue;
        end if;
        insert into pgqueue.blocked (job_id, lane, attempt, losses, position, wake_at, waits)
        values (held.job_id, held.lane, held.attempt - 1, held.losses, held.position, given.until, given.event);
        if live <> '{}' then
            -- A join of what it waits for, which ends however these end, and moves it on like a link of a chain.
            join_id := pgqueue.uuid7();
            update pgqueue.job set hooks = coalesce(job.hooks, 0) | 1
            where job.id = any(live) and (coalesce(job.hooks, 0) & 1) = 0;
            insert into pgqueue.barrier (id, workflow_id, is_join, runs_anyway, total, open)
            select join_id,
                   coalesce((select job.workflow_id from pgqueue.job where job.id = live[1]),
                            (select barrier.workflow_id from pgqueue.barrier where barrier.id = live[1]),
                            live[1]),
                   true, true, cardinality(live), cardinality(live);
            insert into pgqueue.edge (upstream, downstream, position, direct)
            select node.id, join_id, node.number, false from unnest(live) with ordinality as node (id, number);
            -- The position of an input that is not taken.
            insert into pgqueue.edge (upstream, downstream, position, direct) values (join_id, held.job_id, -1, true);
        end if;
    end loop;
end
$$;

-- Send a job an event. Returns 'sent'; 'duplicate' if it has had one of this name and `dedup`; 'unknown' if there is no
-- such job, or the status in which it has ended: then nothing is sent. And the lane in which it is pending now, if it
-- waited for this. With `defer`, as in a transaction that goes on, no record is locked, and the upkeep looks later.
create function pgqueue.signal(
    job uuid, name text, payload json default 'null', dedup text default null, defer boolean default false,
    out answer text, out in_lane integer
) language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    ended_as pgqueue.job_status;
begin
    if defer then
        select record.status into ended_as from pgqueue.job as record where record.id = signal.job;
    else
        select record.status into ended_as from pgqueue.job as record where record.id = signal.job for update;
    end if;
    if not found or ended_as is not null then
        answer := coalesce(ended_as::text, 'unknown');
        return;
    end if;
    insert into pgqueue.event (job_id, name, dedup, payload, is_new)
    values (signal.job, signal.name, signal.dedup, signal.payload, defer)
    on conflict do nothing;
    answer := case when found then 'sent' else 'duplicate' end;
    if answer = 'sent' and not defer then
        with woken as (
            delete from pgqueue.blocked as waiting where waiting.job_id = signal.job and waiting.waits = signal.name
            returning waiting.*
        )
        insert into pgqueue.ready as queued (job_id, lane, attempt, losses, position)
        select woken.job_id, woken.lane, woken.attempt, woken.losses, coalesce(woken.position, nextval('pgqueue.position'))
        from woken
        returning queued.lane into in_lane;
    end if;
end
$$;

-- What a wait of a job that runs under lease `holder` has come to, stored as step `step_name`: a list of the oldest
-- event of that name, or an empty list if its time is over. A timeout is stored like a result: otherwise the handler,
-- when it runs again, would take a later event for what this wait had come to. Null: it goes on, until the time that
-- step `step_name`/until has stored when the wait began.
create function pgqueue.settle_wait(
    job uuid, holder uuid, step_name text, event_name text, patience interval,
    out is_held boolean, out outcome text, out wake_at timestamptz, out wakes_in double precision
) language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    oldest record;
begin
    -- One writer; and a rescue does not miss this before it is committed.
    perform from pgqueue.running where running.job_id = job and running.lease_id = holder for key share;
    is_held := found;
    if not is_held then
        return;
    end if;
    select step.result::text into outcome from pgqueue.step where step.job_id = job and step.name = step_name;
    if found then
        return;
    end if;
    if patience is not null then
        insert into pgqueue.step (job_id, name, result)
        values (job, step_name || '/until', to_json(clock_timestamp() + patience))
        on conflict (job_id, name) do update set name = excluded.name
        returning (step.result #>> '{}')::timestamptz into wake_at;
    end if;
    select event.id, event.payload, event.dedup into oldest
    from pgqueue.event
    where event.job_id = job and event.name = event_name and not event.is_taken
    order by event.id limit 1;
    if found then
        outcome := '[' || oldest.payload::text || ']';
        if oldest.dedup is null then
            delete from pgqueue.event where event.id = oldest.id;
        else
            update pgqueue.event set is_taken = true, payload = 'null' where event.id = oldest.id;
        end if;
    elsif wake_at <= clock_timestamp() then
        outcome := '[]';
    end if;
    if outcome is not null then
        insert into pgqueue.step (job_id, name, result) values (job, step_name, outcome::json);
    else
        wakes_in := extract(epoch from wake_at) - extract(epoch from clock_timestamp());
    end if;
end
$$;

-- Make up to `most` jobs except `without` pending whose time has come, and those whose events came in transactions of
-- others. Returns them.
create function pgqueue.wake(most integer, without uuid[]) returns table (id uuid, lane integer, attempt integer)
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    news bigint[] := array(
        select event.id from pgqueue.event
        where event.is_new and event.job_id <> all(without)
        order by event.id limit most for update skip locked);
    called uuid[];
    due uuid[];
begin
    if news <> '{}' then
        called := array(select distinct event.job_id from pgqueue.event where event.id = any(news));
        -- Whoever has one of them wait now is waited for, or sees the event.
        perform from pgqueue.job where job.id = any(called) order by job.id for update;
        update pgqueue.event set is_new = false where event.id = any(news);
        due := array(
            select blocked.job_id from pgqueue.blocked
            where blocked.job_id = any(called)
              and (select true from pgqueue.event
                   where event.job_id = blocked.job_id and event.name = blocked.waits and not event.is_taken limit 1));
    end if;
    due := due || array(
        select blocked.job_id from pgqueue.blocked
        where blocked.wake_at <= now() and blocked.job_id <> all(without)
        order by blocked.wake_at limit most for update skip locked);
    return query
    with moved as (
        delete from pgqueue.blocked as waiting where waiting.job_id = any(due) returning waiting.*
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, attempt, losses, position)
        select moved.job_id, moved.lane, moved.attempt, moved.losses, coalesce(moved.position, nextval('pgqueue.position'))
        from moved order by moved.job_id
        on conflict do nothing
    )
    select moved.job_id, moved.lane, moved.attempt from moved;
end
$$;

-- A job of a paused workflow may have waited for jobs of its own: then more than one link leads to it.
do $$
declare
    definition text := pg_get_functiondef('pgqueue.pause_workflow'::regproc);
    before text := '(select edge.outcome = ''succeeded'' from pgqueue.edge';
begin
    if position(before in definition) = 0 then
        raise exception 'function pgqueue.pause_workflow is not as the migrations before this left it';
    end if;
    execute replace(definition, before, '(select bool_or(edge.outcome = ''succeeded'') from pgqueue.edge');
end
$$;
