-- 0038 simple gates: what jobs with a single limit pay is a third.
-- works with: 1
-- Workers may keep running: what they write is not marked as simple, and passes its gates as before.

alter table pgqueue.blocked add column single boolean;   -- its job has this one gate, and no workflow; null: look
-- Nothing was found by it that is not found by the key of the table, and each limited job wrote it.
drop index pgqueue.blocked_gated;

-- Let jobs through those of `gates` (with their rules, whose rows the caller holds) that are of the plainest kind: so
-- many slots, what does not fit waits, jobs wait in one lane that is not paused, and have no other gate. `made`: those
-- that are new. The rest of attend_gates costs three times as much for each gate. Returns the gates that were served,
-- lanes with new ready jobs, and the notes that follow.
create function pgqueue.attend_simple_gates(
    gates uuid[], rules text[], made uuid[], mine bigint[], most integer,
    out served uuid[], out lanes integer[], out more bigint[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    paused integer[] := pgqueue.paused_lanes();
begin
    with heard as materialized (
        select note.node_id as gate, coalesce(sum(note.released), 0) as released,
               min(note.lane) as lane, max(note.lane) as other_lane, min(note.low) as low,
               -- Looked at anew: its queue goes on, or its limit was changed.
               bool_or(note.released is null and note.lane is null) as anew
        from pgqueue.note
        where note.id = any(mine) and note.kind = 'gate'
        group by note.node_id
        having bool_and(note.closed_until is null)
    ),
    known as materialized (
        select heard.gate, state.number, state.at, state.in_use as was_in_use, state.lows[1] as was_low,
               state.lanes[1] as was_lane, cardinality(state.lanes) as lanes,
               greatest(0, coalesce(state.in_use, 0) - heard.released)::integer as in_use,
               case when heard.anew then spot.lane else coalesce(heard.lane, state.lanes[1]) end as lane,
               case when heard.anew then spot.turn else least(state.lows[1], heard.low) end as low, rule.slots
        from heard
        join rows from (unnest(gates), unnest(rules)) as held (gate, rule) on held.gate = heard.gate
        join pgqueue.limit_rule as rule on rule.name = held.rule
        left join unnest(made) as new (gate) on new.gate = heard.gate
        left join lateral (
            select gate_state.* from pgqueue.gate_state
            where gate_state.gate = heard.gate order by gate_state.number desc limit 1
        ) as state on true
        left join lateral (
            select blocked.lane, blocked.turn from pgqueue.blocked
            where blocked.gate = heard.gate order by blocked.lane, blocked.turn limit 1
        ) as spot on heard.anew
        where rule.kind = 'slots' and rule.slots is not null and coalesce(rule.when_full, 'wait') = 'wait'
          and (state.number is not null or new.gate is not null)
          and state.look is null
          and case
              when heard.anew then spot.lane is not distinct from (
                  select blocked.lane from pgqueue.blocked
                  where blocked.gate = heard.gate order by blocked.lane desc limit 1)
              when cardinality(state.lanes) > 1 then false
              else heard.lane is null
                   or heard.lane = heard.other_lane and coalesce(state.lanes[1], heard.lane) = heard.lane end
    ),
    picking as materialized (
        select known.*, pick.ids
        from known
        cross join lateral (
            select coalesce(array_agg(first.job_id), '{}') as ids, coalesce(bool_and(first.single), true) as are_single
            from (
                select blocked.job_id, coalesce(blocked.single, false) as single
                from pgqueue.blocked
                where blocked.gate = known.gate and blocked.lane = known.lane and blocked.turn >= known.low
                order by blocked.turn
                limit greatest(0, least(known.slots - known.in_use, most))
                -- Whoever cancels one has it.
                for update skip locked
            ) as first
        ) as pick
        where pick.are_single and (known.lane is null or known.lane <> all(paused))
    ),
    passed as (
        insert into pgqueue.gate_pass (gate, job_id) select picking.gate, unnest(picking.ids) from picking
        on conflict do nothing
    ),
    moved as (
        delete from pgqueue.blocked
        where blocked.job_id = any(array(select unnest(picking.ids) from picking))
        returning blocked.job_id, blocked.lane, blocked.position, blocked.attempt, blocked.losses, blocked.turn
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, position, attempt, losses)
        select moved.job_id, moved.lane, coalesce(moved.position, nextval('pgqueue.position')), moved.attempt, moved.losses
        from moved order by moved.turn
        on conflict do nothing
        returning lane
    ),
    outcome as materialized (
        select picking.*, cardinality(picking.ids) as passes,
               -- Where the next one waits; null: nobody does.
               case when picking.slots <= picking.in_use then picking.low else (
                   select blocked.turn from pgqueue.blocked
                   where blocked.gate = picking.gate and blocked.lane = picking.lane and blocked.turn >= picking.low
                     and blocked.job_id <> all(picking.ids)
                   order by blocked.turn limit 1) end as next
        from picking
    ),
    fresh as (
        insert into pgqueue.gate_state (gate, number, in_use, tokens, at, let, lanes, lows)
        select outcome.gate, coalesce(outcome.number % 4611686018427387904, 0) + 1, outcome.in_use + outcome.passes, 0,
               clock_timestamp(), '{}',
               case when outcome.next is null then '{}' else array[outcome.lane] end,
               case when outcome.next is null then '{}' else array[outcome.next] end
        from outcome
        where outcome.number is null or outcome.in_use + outcome.passes <> outcome.was_in_use
           or (outcome.next is null) <> (outcome.was_low is null) or outcome.next < outcome.was_low
           or outcome.lane <> outcome.was_lane or outcome.lanes > 1
           -- A turn that is too low costs a look at what has gone: not for long.
           or outcome.next > outcome.was_low
              and (outcome.passes > 1 or outcome.at not between clock_timestamp() - interval '1 second' and clock_timestamp())
        returning gate
    ),
    -- Those of before: what this statement inserts it does not see. From the lowest number on, as those that are gone
    -- are in the index still.
    old as (
        delete from pgqueue.gate_state
        where gate_state.gate = any(array(select fresh.gate from fresh))
          and gate_state.number >= (
              select min(outcome.number) from outcome where outcome.gate in (select fresh.gate from fresh))
    ),
    follows as (
        insert into pgqueue.note (node_id, kind, released)
        select outcome.gate, 'gate', 0 from outcome
        where outcome.next is not null and outcome.passes = most and outcome.passes < outcome.slots - outcome.in_use
        returning id
    ),
    -- For the upkeep: somebody has just the one that waits.
    unsure as (
        insert into pgqueue.note (node_id, kind, released)
        select outcome.gate, 'gate', 0 from outcome
        where outcome.next is not null and outcome.passes < most and outcome.passes < outcome.slots - outcome.in_use
    )
    select array(select outcome.gate from outcome), array(select distinct lane from queued), (select array_agg(id) from follows)
    into served, lanes, more;
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
            ('attend_gates', E'    perform from pgqueue.gate where gate.id = any(attend_gates.gates) order by gate.id for update;\n'
             '    -- From here on a new snapshot: passes and states are written under that lock alone.\n',
             E'    select array_agg(locked.id), array_agg(locked.rule) into held, rules\n'
             '    from (select gate.id, gate.rule from pgqueue.gate where gate.id = any(attend_gates.gates)\n'
             '          order by gate.id for update) as locked;\n'
             '    -- From here on a new snapshot: passes and states are written under that lock alone.\n'
             '    select * into simple from pgqueue.attend_simple_gates(held, rules, made, mine, most);\n'
             '    if simple.served <> ''{}'' then\n'
             '        gates := array(select unnest(gates) except select unnest(simple.served));\n'
             '        if gates = ''{}'' then\n'
             '            more := simple.more;\n'
             '            lanes := simple.lanes;\n'
             '            return;\n'
             '        end if;\n'
             '    end if;\n'),
            ('attend_gates', E'    into lanes, halted, more, full_ones, later, due, is_gone;\n',
             E'    into lanes, halted, more, full_ones, later, due, is_gone;\n'
             '    lanes := lanes || simple.lanes;\n'
             '    more := more || simple.more;\n'),
            -- By key: as a join of the whole table that a plan may choose, it read all jobs.
            ('attend_gates', E'    with fresh as (\n        insert into pgqueue.gate (id, rule, key)\n',
             E'    made := array(\n'
             '        select unnest(gates) except select gate.id from pgqueue.gate where gate.id = any(attend_gates.gates));\n'
             '    if made <> ''{}'' then\n'
             '    with first as materialized (\n'
             '        select given.id as gate,\n'
             '               (select blocked.job_id from pgqueue.blocked where blocked.gate = given.id limit 1) as job_id\n'
             '        from unnest(made) as given (id)\n'
             '    ),\n'
             '    fresh as (\n'
             '        insert into pgqueue.gate (id, rule, key)\n'),
            ('attend_gates', E'        from (\n'
             '            select given.id as gate,\n'
             '                   (select blocked.job_id from pgqueue.blocked where blocked.gate = given.id limit 1) as job_id\n'
             '            from unnest(attend_gates.gates) as given (id)\n'
             '            where not exists (select from pgqueue.gate where gate.id = given.id)\n'
             '        ) as first\n'
             '        join pgqueue.job on job.id = first.job_id\n',
             E'        from first\n'
             '        join (select job.id, job.gates from pgqueue.job\n'
             '              where job.id = any(array(select first.job_id from first))) as job on job.id = first.job_id\n'),
            ('attend_gates', E'    select array_agg(id) into made from fresh;\n',
             E'    select array_agg(id) into made from fresh;\n'
             '    end if;\n'),
            ('attend_gates', E'    made uuid[];\n',
             E'    made uuid[];\n'
             '    held uuid[];\n'
             '    rules text[];\n'
             '    simple record;\n'),
            ('gate_in', E'        select job.id, pgqueue.next_gate(job.id, job.gates) as gate,',
             E'        select job.id, pgqueue.next_gate(job.id, job.gates) as gate,\n'
             '               case when cardinality(job.gates) = 2 and job.workflow_id is null then true end as single,'),
            ('gate_in', E'        insert into pgqueue.blocked (job_id, lane, position, attempt, losses, gated, gate, turn)\n',
             E'        insert into pgqueue.blocked (job_id, lane, position, attempt, losses, gated, gate, single, turn)\n'),
            ('gate_in', E'moved.losses, true, gated.gate,\n', E'moved.losses, true, gated.gate, gated.single,\n'),
            -- What has gates and nothing else has no edges.
            ('settle', E'    select array_agg(edge.upstream) filter (where edge.direct),\n'
             '           array_agg(distinct edge.upstream) filter (where not edge.direct)\n'
             '    into links, noted\n'
             '    from pgqueue.edge\n'
             '    where edge.upstream = any(ids);\n',
             E'    if hooks <> 4 then\n'
             '        select array_agg(edge.upstream) filter (where edge.direct),\n'
             '               array_agg(distinct edge.upstream) filter (where not edge.direct)\n'
             '        into links, noted\n'
             '        from pgqueue.edge\n'
             '        where edge.upstream = any(ids);\n'
             '    end if;\n')
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
