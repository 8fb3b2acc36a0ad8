-- 0037 doors: a paused queue holds no slots, and what operators and later calls change of a limited job keeps to limits.
-- works with: 1
-- Workers may keep running: what they put into paused queues gives its slots back within a minute.

-- Have those of `ids`, or of all jobs, that are ready in a paused queue wait for their limits again, which others may
-- use meanwhile. `places`: for who calls it in a statement, which has to have written those first. Returns notes.
create function pgqueue.return_to_gates(ids uuid[] default null, places bigint default null) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    paused integer[] := array(select lane.id from pgqueue.lane where lane.paused);
    held uuid[];
    notes bigint[];
begin
    if paused = '{}' then
        return '{}';
    end if;
    held := array(
        select distinct gate_pass.job_id from pgqueue.gate_pass
        where ids is null or gate_pass.job_id = any(ids));
    -- Who claims one of them has it.
    with locked as materialized (
        select ready.job_id from pgqueue.ready
        where ready.job_id = any(held) and ready.lane = any(paused)
        for update skip locked
    )
    select array_agg(job_id order by job_id) into held from locked;
    if held is null then
        return '{}';
    end if;
    notes := pgqueue.give_back(held);
    return coalesce(notes, '{}') || coalesce(pgqueue.gate_in(held), '{}');
end
$$;

do $$
declare
    change record;
    present text;
    definition text;
begin
    for change in
        select * from (values
            -- What waits for limits in the queue that goes on was not let through.
            ('set_paused', E'    return true;\nend\n',
             E'    if not set_paused.paused then\n'
             '        insert into pgqueue.note (node_id, kind)\n'
             '        select gate.id, ''gate'' from pgqueue.gate\n'
             '        where exists (select from pgqueue.blocked where blocked.gate = gate.id and blocked.lane = any(array(\n'
             '            select lane.id from pgqueue.lane\n'
             '            where named = case of_kind when ''queue'' then lane.queue else lane.task end)));\n'
             '    end if;\n'
             '    return true;\n'
             'end\n'),
            -- Where the gate has a note already that is attended to here, these are looked for, too.
            ('attend', E'            gates := gates || array(\n'
             '                select distinct blocked.gate from pgqueue.blocked\n'
             '                where blocked.job_id = any(fired) and blocked.gate is not null);\n',
             E'            with fresh as (\n'
             '                insert into pgqueue.note (node_id, kind, lane, low)\n'
             '                select blocked.gate, ''gate'', blocked.lane, min(blocked.turn) from pgqueue.blocked\n'
             '                where blocked.job_id = any(fired) and blocked.gate is not null group by blocked.gate, blocked.lane\n'
             '                returning id, node_id\n'
             '            )\n'
             '            select mine || array_agg(fresh.id), gates || array_agg(fresh.node_id) into mine, gates from fresh;\n'),
            -- It waits for its limits, and nobody else attends to that at once.
            ('redrive', E'    perform pg_notify(',
             E'    perform pg_notify(''pgqueue'', ''attend'')\n'
             '    where (select job.hooks & 4 from pgqueue.job where job.id = redrive.id) > 0\n'
             '      and pg_notification_queue_usage() < 0.9::float8;\n'
             '    perform pg_notify('),
            ('transition', E'    if hooked is not null then\n',
             E'    perform pg_notify(''pgqueue'', ''attend'')\n'
             '    where (select job.hooks & 4 from pgqueue.job where job.id = transition.id) > 0\n'
             '      and pg_notification_queue_usage() < 0.9::float8;\n'
             '    if hooked is not null then\n'),
            -- A limited job that takes later arguments has the limits of these, and does not start before its time.
            ('replace_jobs', E'    hooked integer;\n', E'    hooked integer;\n    had text[];\n    gets text[];\n'),
            ('replace_jobs', E'tags text, key text, lane integer)\n', E'tags text, key text, lane integer, gates json)\n'),
            ('replace_jobs', E'        flaw := coalesce(pgqueue.flaw_of_parts(',
             E'        flaw := coalesce(pgqueue.flaw_of_gates(call.gates), pgqueue.flaw_of_parts('),
            ('replace_jobs', E'        select job.hooks into hooked from pgqueue.job where job.id = call.job_id for update;\n',
             E'        select job.hooks, job.gates into hooked, had from pgqueue.job where job.id = call.job_id for update;\n'
             '        gets := had;\n'
             '        if call.gates is not null then\n'
             '            gets := nullif(array(\n'
             '                select pair.part\n'
             '                from json_array_elements(call.gates) with ordinality as gate (pair, number)\n'
             '                cross join lateral (values (1, gate.pair ->> 0), (2, gate.pair ->> 1)) as pair (side, part)\n'
             '                order by gate.number, pair.side), ''{}'');\n'
             '        end if;\n'
             '        if gets is distinct from had or start_at > now() then\n'
             -- It comes to its limits again, from where any other job does.
             '            with off as (\n'
             '                delete from pgqueue.blocked\n'
             '                where blocked.job_id = call.job_id and blocked.gate is not null\n'
             '                  and not pgqueue.has_started(call.job_id)\n'
             '                returning blocked.*\n'
             '            )\n'
             '            insert into pgqueue.ready (job_id, lane, position)\n'
             '            select off.job_id, off.lane, coalesce(off.position, nextval(''pgqueue.position'')) from off;\n'
             '        end if;\n'),
            ('replace_jobs', E'        if hooked & 4 > 0 then\n            if start_at > now() then\n',
             E'        if gets is distinct from had then\n'
             '            hooked := (coalesce(hooked, 0) & (~36))\n'
             '                | case when gets is null then 0 when starts_with(gets[1], ''order/'') then 36 else 4 end;\n'
             '            update pgqueue.job\n'
             '            set gates = gets, hooks = nullif(hooked, 0),\n'
             '                turn = case when hooked & 32 = 0 then null\n'
             '                            when gets[1:2] = had[1:2] then job.turn\n'
             '                            else nextval(''pgqueue.position'') end\n'
             '            where job.id = call.job_id;\n'
             '        end if;\n'
             '        if hooked & 4 > 0 or had is not null then\n'
             '            if start_at > now() or gets is distinct from had then\n')
        ) as given (name, was, becomes)
    loop
        if change.name is distinct from present then
            if present is not null then
                execute definition;
            end if;
            present := change.name;
            definition := pg_get_functiondef(('pgqueue.' || present)::regproc);
        end if;
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it: %', present, change.was;
        end if;
        definition := replace(definition, change.was, change.becomes);
    end loop;
    execute definition;
end
$$;
