-- 0012 lanes: lanes can go, and come back; a snapshot that is older than a lane can enqueue to it.
-- works with: 1
-- Workers may keep running: those from before use lanes that were removed, and the upkeep brings these back.

alter table pgqueue.lane add column removed_at timestamptz;  -- not used since; null: in use. Ended jobs show its queue
alter table pgqueue.lane add column idle_since timestamptz;  -- when the upkeep first saw it without a job
create index lane_removed on pgqueue.lane (removed_at) where removed_at is not null;

-- The lane of a queue and priority; made if it is new, brought back if it was removed.
create or replace function pgqueue.lane_of(in_queue text, at_priority smallint) returns integer
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
declare
    found_id integer;
begin
    select id into found_id from pgqueue.lane
    where queue = in_queue and priority = at_priority and task = '' and removed_at is null;
    if not found then
        insert into pgqueue.lane (queue, priority) values (in_queue, at_priority)
        on conflict (queue, priority, task) do update set removed_at = null, idle_since = null
        where lane.removed_at is not null;
        select id into strict found_id from pgqueue.lane
        where queue = in_queue and priority = at_priority and task = '';
    end if;
    return found_id;
end
$$;

-- The lane of a queue and priority, as lane_of. `known`: its id, where the caller has just had lane_of say it in
-- another transaction. A transaction whose snapshot is older than the lane cannot look it up, and could not make it.
create function pgqueue.lane_for(in_queue text, at_priority smallint, known integer) returns integer
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    seen pgqueue.lane;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable')
       and known between 1 and pg_sequence_last_value('pgqueue.lane_id_seq') then
        select * into seen from pgqueue.lane where lane.id = known;
        -- One that is seen under another name is not the one that is meant.
        if not found or (seen.queue, seen.priority, seen.task) = (in_queue, at_priority, '') then
            return known;
        end if;
    end if;
    return pgqueue.lane_of(in_queue, at_priority);
end
$$;

-- The lane like `given` at another priority; made if it is new, brought back if it was removed.
create or replace function pgqueue.lane_like(given integer, at_priority integer) returns integer
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    found_id integer;
begin
    loop
        select alike.id into found_id
        from pgqueue.lane as had
        join pgqueue.lane as alike on alike.queue = had.queue and alike.task = had.task
        where had.id = given and alike.priority = at_priority and alike.removed_at is null;
        if found then
            return found_id;
        end if;
        insert into pgqueue.lane (queue, priority, task)
        select queue, at_priority, task from pgqueue.lane where lane.id = given
        on conflict (queue, priority, task) do update set removed_at = null, idle_since = null
        where lane.removed_at is not null;
    end loop;
end
$$;

-- Functions of which a line changes. What they are now is in sql/schema.sql.
do $$
declare
    change text[];
    definition text;
begin
    foreach change slice 1 in array array[
        -- A call says the lane where the transaction may not see it.
        ['replace_jobs',
         'options text, headers text, tags text, key text)',
         'options text, headers text, tags text, key text, lane integer)'],
        ['replace_jobs',
         E'select lane.id into strict new_lane from pgqueue.lane\n'
         '        where lane.queue = call.queue and lane.priority = call.priority and lane.task = '''';',
         'new_lane := pgqueue.lane_for(call.queue, call.priority, call.lane);'],
        ['submit',
         'perform pgqueue.lane_of(lane.queue, lane.priority)',
         'perform pgqueue.lane_for(lane.queue, lane.priority, lane.id)'],
        ['submit',
         E'select distinct given.queue, given.priority\n'
         '        from json_to_recordset(calls) as given (queue text, priority smallint)',
         E'select distinct given.queue, given.priority, given.lane as id\n'
         '        from json_to_recordset(calls) as given (queue text, priority smallint, lane integer)'],
        ['submit',
         E'(select lane.id from pgqueue.lane\n'
         '                where lane.queue = given.queue and lane.priority = given.priority and lane.task = ''''),',
         E'coalesce((\n'
         '                   select lane.id from pgqueue.lane\n'
         '                   where lane.queue = given.queue and lane.priority = given.priority and lane.task = ''''\n'
         '                     and lane.removed_at is null\n'
         '               ), given.lane),'],
        ['submit',
         E'options text, headers text, tags text, key text)\n        where given.job_id not in',
         E'options text, headers text, tags text, key text, lane integer)\n        where given.job_id not in'],
        -- A job that returns to a lane brings it back.
        ['reopen',
         E'begin\n    if in_queue is not null then',
         E'begin\n'
         '    update pgqueue.lane set removed_at = null, idle_since = null\n'
         '    where lane.removed_at is not null\n'
         '      and lane.id = any(array(select job.lane from pgqueue.job where job.id = any(ids)));\n'
         '    if in_queue is not null then']
    ] loop
        definition := pg_get_functiondef(('pgqueue.' || change[1])::regproc);
        if position(change[2] in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it', change[1];
        end if;
        execute replace(definition, change[2], change[3]);
    end loop;
end
$$;
