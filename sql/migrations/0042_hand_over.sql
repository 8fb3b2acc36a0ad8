-- 0042 hand-over: whoever ends limited jobs lets the next ones through himself, where nobody else is at their gates.
-- works with: 1
-- Workers may keep running: they leave notes, as before.

-- Give back what `ids` hold, which have just succeeded, and let the next ones through in the same transaction: those of
-- gates that nobody else holds just now (whoever ends a job waits for nobody), and of the plainest kind: so many slots,
-- what does not fit waits, or a line; jobs wait in one lane that is not paused, and have no other gate. The other gates
-- get a note. Only for transactions that end with this: these gates are held until then. Returns the notes that it
-- wrote, and lanes with new ready jobs.
create function pgqueue.hand_over(ids uuid[], out notes bigint[], out lanes integer[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    gates uuid[];
    counts integer[];
    lines uuid[];
    held uuid[];
    rules text[];
    released integer[];
    served uuid[] := '{}';
    paused integer[];
begin
    with freed as (
        delete from pgqueue.gate_pass where gate_pass.job_id = any(ids) returning gate_pass.gate, gate_pass.kept
    )
    select array_agg(each.gate) filter (where not each.kept), array_agg(each.jobs) filter (where not each.kept),
           array_agg(each.gate) filter (where each.kept)
    into gates, counts, lines
    from (
        select freed.gate, coalesce(freed.kept, false) as kept, count(*)::integer as jobs
        from freed group by freed.gate, coalesce(freed.kept, false)
    ) as each;
    lanes := '{}';
    if gates is not null then
        select array_agg(free.id), array_agg(free.rule), array_agg(given.jobs) into held, rules, released
        from (
            select gate.id, gate.rule from pgqueue.gate where gate.id = any(gates) order by gate.id for update skip locked
        ) as free
        join unnest(gates, counts) as given (gate, jobs) on given.gate = free.id;
    end if;
    if held is not null then
        paused := pgqueue.paused_lanes();
        -- A new snapshot: passes and states are written under that lock alone.
        with outcome as materialized (
            select given.gate, state.number, state.in_use as was_in_use, now_in_use.jobs + cardinality(pick.ids) as in_use,
                   state.lanes[1] as lane, state.lows[1] as low, rule.slots, pick.ids,
                   -- Where the next one waits; null: nobody does. One that was let through with the gate full again
                   -- leaves it as it is: a turn that is too low costs a look at what has gone. Not at many.
                   case when rule.slots <= now_in_use.jobs
                             or rule.slots = now_in_use.jobs + 1 and cardinality(pick.ids) = 1 and random() < 0.9
                        then state.lows[1] else (
                       select blocked.turn from pgqueue.blocked
                       where blocked.gate = given.gate and blocked.lane = state.lanes[1] and blocked.turn >= state.lows[1]
                         and blocked.job_id <> all(pick.ids)
                       order by blocked.turn limit 1) end as next
            from unnest(held, rules, released) as given (gate, rule, jobs)
            join (
                select limit_rule.name, limit_rule.slots from pgqueue.limit_rule
                where limit_rule.name = any(rules) and limit_rule.kind = 'slots' and limit_rule.slots is not null
                  and coalesce(limit_rule.when_full, 'wait') = 'wait'
            ) as rule on rule.name = given.rule
            cross join lateral (
                select gate_state.number, gate_state.in_use, gate_state.lanes, gate_state.lows, gate_state.look
                from pgqueue.gate_state
                where gate_state.gate = given.gate order by gate_state.number desc limit 1
            ) as state
            cross join lateral (select greatest(0, state.in_use - given.jobs) as jobs) as now_in_use
            cross join lateral (
                select coalesce(array_agg(first.job_id), '{}') as ids, coalesce(bool_and(first.single), true) as are_single
                from (
                    select blocked.job_id, coalesce(blocked.single, false) as single
                    from pgqueue.blocked
                    where blocked.gate = given.gate and blocked.lane = state.lanes[1] and blocked.turn >= state.lows[1]
                    order by blocked.turn
                    limit greatest(0, rule.slots - now_in_use.jobs)
                    -- Whoever cancels one has it.
                    for update skip locked
                ) as first
            ) as pick
            where state.look is null and cardinality(state.lanes) <= 1 and pick.are_single
              and (state.lanes = '{}' or state.lanes[1] <> all(paused))
        ),
        passed as (
            insert into pgqueue.gate_pass (gate, job_id) select outcome.gate, unnest(outcome.ids) from outcome
            on conflict do nothing
        ),
        moved as (
            delete from pgqueue.blocked
            where blocked.job_id = any(array(select unnest(outcome.ids) from outcome))
            returning blocked.job_id, blocked.lane, blocked.position, blocked.attempt, blocked.losses, blocked.turn
        ),
        queued as (
            insert into pgqueue.ready (job_id, lane, position, attempt, losses)
            select moved.job_id, moved.lane, coalesce(moved.position, nextval('pgqueue.position')), moved.attempt, moved.losses
            from moved order by moved.turn
            on conflict do nothing
            returning lane
        ),
        fresh as (
            insert into pgqueue.gate_state (gate, number, in_use, tokens, at, let, lanes, lows)
            select outcome.gate, outcome.number % 4611686018427387904 + 1, outcome.in_use, 0, clock_timestamp(), '{}',
                   case when outcome.next is null then '{}' else array[outcome.lane] end,
                   case when outcome.next is null then '{}' else array[outcome.next] end
            from outcome
            where outcome.in_use <> outcome.was_in_use or outcome.next is distinct from outcome.low
            returning gate, number
        ),
        -- Those of before: what this statement inserts it does not see. From the lowest number on, as those that are
        -- gone are in the index still.
        old as (
            delete from pgqueue.gate_state
            where gate_state.gate = any(array(select fresh.gate from fresh))
              and gate_state.number >= (select min(fresh.number) - 1 from fresh)
        ),
        -- For the upkeep: somebody has just the one that waits.
        unsure as (
            insert into pgqueue.note (node_id, kind, released)
            select outcome.gate, 'gate', 0 from outcome where outcome.next is not null and outcome.in_use < outcome.slots
        )
        select array(select outcome.gate from outcome), array(select distinct queued.lane from queued) into served, lanes;
    end if;
    if cardinality(served) < cardinality(gates) then
        with fresh as (
            insert into pgqueue.note (node_id, kind, released)
            select given.gate, 'gate', given.jobs from unnest(gates, counts) as given (gate, jobs)
            where given.gate <> all(served)
            returning id
        )
        select array_agg(fresh.id) into notes from fresh;
    end if;
    if lines is not null then
        declare
            over record;
        begin
            select * into over from pgqueue.hand_lines_over(lines);
            notes := notes || over.notes;
            lanes := lanes || over.lanes;
        end;
    end if;
end
$$;

-- The same of lines, whose heads have just left.
create function pgqueue.hand_lines_over(lines uuid[], out notes bigint[], out lanes integer[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    held uuid[] := array(
        select gate.id from pgqueue.gate where gate.id = any(hand_lines_over.lines) order by gate.id for update skip locked);
    busy uuid[];
    paused integer[] := pgqueue.paused_lanes();
begin
    -- From here on a new snapshot: whoever was let through, and whoever has stopped a line, is seen.
    with first as materialized (
        select line.id as gate, head.job_id, head.lane, head.turn,
               head.single
               and head.lane <> all(paused)
               -- Waits in one lane.
               and head.lane = (
                   select blocked.lane from pgqueue.blocked
                   where blocked.gate = line.id order by blocked.lane desc, blocked.turn desc limit 1)
               -- Never past what stops it.
               and (select true from pgqueue.stopped
                    where stopped.gate = line.id and (stopped.halts or stopped.turn < head.turn) limit 1) is null as goes_on
        from unnest(held) as line (id)
        cross join lateral (
            select blocked.job_id, blocked.lane, blocked.turn, blocked.single from pgqueue.blocked
            where blocked.gate = line.id order by blocked.lane, blocked.turn limit 1
        ) as head
        where line.id <> all(array(select gate_pass.gate from pgqueue.gate_pass where gate_pass.gate = any(held)))
    ),
    -- Whoever cancels one has it, and nobody else is let through instead of it.
    mine as materialized (
        select blocked.job_id from pgqueue.blocked
        where blocked.job_id = any(array(select first.job_id from first where first.goes_on)) and blocked.gate = any(held)
        for update skip locked
    ),
    passed as (
        insert into pgqueue.gate_pass (gate, job_id, kept)
        select first.gate, first.job_id, true from first where first.job_id in (select mine.job_id from mine)
        on conflict do nothing
    ),
    moved as (
        delete from pgqueue.blocked
        where blocked.job_id = any(array(select mine.job_id from mine))
        returning blocked.job_id, blocked.lane, blocked.position, blocked.attempt, blocked.losses
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, position, attempt, losses)
        select moved.job_id, moved.lane, coalesce(moved.position, nextval('pgqueue.position')), moved.attempt, moved.losses
        from moved
        on conflict do nothing
        returning lane
    )
    select array(select distinct queued.lane from queued),
           array(select first.gate from first where first.job_id not in (select mine.job_id from mine))
    into lanes, busy;
    if busy <> '{}' or cardinality(held) < cardinality(lines) then
        with fresh as (
            insert into pgqueue.note (node_id, kind)
            select line.id, 'gate' from unnest(lines) as line (id)
            where line.id = any(busy) or line.id <> all(held)
            returning id
        )
        select array_agg(fresh.id) into notes from fresh;
    end if;
end
$$;

-- Settle the ends of jobs that have succeeded, as settle does, but that what they held goes to the next ones at once.
create function pgqueue.settle_and_hand_over(ids uuid[], hooks integer) returns json
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    settled json;
    over record;
begin
    if hooks & 4 = 0 then
        return pgqueue.settle(ids, hooks);
    end if;
    select * into over from pgqueue.hand_over(ids);
    if hooks & ~36 = 0 then
        return json_build_object('notes', coalesce(over.notes, '{}'), 'lanes', over.lanes);
    end if;
    settled := pgqueue.settle(ids, hooks & ~36);
    return json_build_object(
        'notes', over.notes || array(select json_array_elements_text(settled -> 'notes')::bigint),
        'lanes', over.lanes || array(select json_array_elements_text(settled -> 'lanes')::integer));
end
$$;

-- Ten ends of limited jobs cost as much in statements that found nothing as in those that did their work.
do $$
declare
    change record;
    present text;
    definition text;
begin
    for change in
        select * from (values
            ('attend', E'    perform pgqueue.hold_workflows(coalesce(nodes, ''{}'') || written || doomed);\n',
             E'    if nodes is not null or written is not null or doomed is not null then\n'
             '        perform pgqueue.hold_workflows(coalesce(nodes, ''{}'') || written || doomed);\n'
             '    end if;\n'),
            ('attend', E'    with fresh as (\n        insert into pgqueue.note (node_id, kind)\n        select node.id, ''ended''\n',
             E'    if ended <> ''{}'' or failing is not null then\n'
             '    with fresh as (\n        insert into pgqueue.note (node_id, kind)\n        select node.id, ''ended''\n'),
            ('attend', E'    select array_agg(id) into more from fresh;\n    if parents',
             E'    select array_agg(id) into more from fresh;\n    end if;\n    if parents')
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
