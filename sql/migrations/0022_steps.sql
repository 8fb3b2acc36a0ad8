-- 0022 steps: steps know their places, so that a handler that comes to them in another order is told.
-- works with: 1
-- Workers may keep running: the steps that they store stand at no place, and are compared with nothing.

alter table pgqueue.step add column number integer;  -- the place among those of the job; null: its order says nothing
alter table pgqueue.step add column kind text;       -- step, sleep, event, workflow; null: stored before this
alter table pgqueue.step add column call integer;    -- a checksum of the arguments with which the handler came to it

-- What a wait has come to, as settle_wait says it, with the place of the wait among the steps.
create function pgqueue.come_to_wait(
    job uuid, holder uuid, step_name text, event_name text, patience interval, place integer, kind text, call integer,
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
        insert into pgqueue.step (job_id, name, result, number, kind, call)
        values (job, step_name || '/until', to_json(clock_timestamp() + patience), place, come_to_wait.kind, come_to_wait.call)
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
        insert into pgqueue.step (job_id, name, result, number, kind, call)
        values (job, step_name, outcome::json, place, come_to_wait.kind, come_to_wait.call);
    else
        wakes_in := extract(epoch from wake_at) - extract(epoch from clock_timestamp());
    end if;
end
$$;

-- For workers that know no places.
create or replace function pgqueue.settle_wait(
    job uuid, holder uuid, step_name text, event_name text, patience interval,
    out is_held boolean, out outcome text, out wake_at timestamptz, out wakes_in double precision
) language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    select waited.is_held, waited.outcome, waited.wake_at, waited.wakes_in
    into is_held, outcome, wake_at, wakes_in
    from pgqueue.come_to_wait(job, holder, step_name, event_name, patience, null, null, null) as waited;
end
$$;

-- Of a sleep or a wait with a timeout, the time at which it ends is stored before what it came to: it is forgotten too.
-- Have a job that has ended forget step `name` and all that were stored after it. Returns how many; 0: there is no such
-- step; null: the job has not ended, or there is none.
create or replace function pgqueue.forget_steps(job uuid, name text) returns integer language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    forgotten integer;
begin
    perform from pgqueue.job as record where record.id = forget_steps.job and record.status is not null for update;
    if not found then
        return null;
    end if;
    delete from pgqueue.step
    where step.job_id = forget_steps.job
      and step.recorded_at >= (
          select min(first.recorded_at) from pgqueue.step as first
          where first.job_id = forget_steps.job
            and first.name = any(array[forget_steps.name, forget_steps.name || '/until']));
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;

-- Make a new job of one that has ended, with the steps that it had stored before step `name`. Returns its lane; 0: there
-- is no such step; null: the job has not ended, or there is none.
create or replace function pgqueue.fork(job uuid, name text, new_id uuid) returns integer language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    source pgqueue.job;
    since timestamptz;
begin
    select * into source from pgqueue.job as record
    where record.id = fork.job and record.status is not null for share;
    if not found then
        return null;
    end if;
    select min(step.recorded_at) into since from pgqueue.step
    where step.job_id = fork.job and step.name = any(array[fork.name, fork.name || '/until']);
    if since is null then
        return 0;
    end if;
    update pgqueue.lane set removed_at = null, idle_since = null where lane.removed_at is not null and lane.id = source.lane;
    insert into pgqueue.job (id, lane, task, arguments, options, headers, tags, key, hooks)
    values (new_id, source.lane, source.task, source.arguments, source.options, source.headers, source.tags, source.key,
            nullif(source.hooks & 2, 0));
    insert into pgqueue.step (job_id, name, result, recorded_at, number, kind, call)
    select new_id, step.name, step.result, step.recorded_at, step.number, step.kind, step.call
    from pgqueue.step where step.job_id = fork.job and step.recorded_at < since;
    -- What it takes from the jobs before it.
    insert into pgqueue.edge (upstream, downstream, position, direct, outcome)
    select edge.upstream, new_id, edge.position, edge.direct, edge.outcome
    from pgqueue.edge where edge.downstream = fork.job and edge.position >= 0 and source.hooks & 2 > 0;
    insert into pgqueue.ready (job_id, lane) values (new_id, source.lane);
    return source.lane;
end
$$;
