-- 0033 fairness: queues whose tenants take turns.
-- works with: 1
-- Workers may keep running: they do not ask for more where they have found nothing, and the upkeep does.
--
-- The tenants of queue Q are the keys of limit fair/Q, a window: at most so many jobs of each are let through that
-- nobody has claimed yet. Lanes are first in, first out, so tenants take turns, and nothing is capped.

-- How many windows a key has; no row: one.
create table pgqueue.window_weight (
    gate       uuid primary key,
    rule       text not null,
    key        text not null,
    weight     double precision not null check (weight between 0.01 and 1000),
    actor      text,
    changed_at timestamptz not null default now()
);
create index window_weight_rule on pgqueue.window_weight (rule);

-- Where jobs wait behind a window: whoever finds nothing to claim in a lane looks here. Written under the lock of the gate.
create table pgqueue.window_lane (
    lane integer not null,
    gate uuid not null,
    primary key (lane, gate)
);

-- What a limit of that name is, whoever writes it first.
create function pgqueue.set_window() returns trigger
language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    new.kind := 'window';
    return new;
end
$$;
create trigger set_window before insert on pgqueue.limit_rule
    for each row when (new.name like 'fair/%') execute function pgqueue.set_window();

-- Give a key of a fair queue `weight` windows; null: one, as all have. Jobs that wait heed it at once.
create function pgqueue.set_weight(queue text, key text, weight double precision, actor text default null) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    gate_id uuid;
begin
    perform pgqueue.check_text('pgqueue.set_weight: queue', set_weight.queue, 200, 1);
    perform pgqueue.check_text('pgqueue.set_weight: key', set_weight.key, 512, 0);
    perform pgqueue.check_text('pgqueue.set_weight: actor', set_weight.actor, 1000, 0);
    -- Not a number is more than any.
    if set_weight.weight < 0.01 or set_weight.weight > 1000 or (set_weight.key is null) then
        raise exception 'pgqueue.set_weight: give a key, and a weight from 0.01 to 1000, got %', set_weight.weight
            using errcode = 'invalid_parameter_value';
    end if;
    gate_id := pgqueue.key_id('fair/' || set_weight.queue, set_weight.key);
    if set_weight.weight is null then
        delete from pgqueue.window_weight as present where present.gate = gate_id;
    else
        insert into pgqueue.window_weight as present (gate, rule, key, weight, actor)
        values (gate_id, 'fair/' || set_weight.queue, set_weight.key, set_weight.weight, coalesce(set_weight.actor, session_user))
        on conflict on constraint window_weight_pkey do update
        set weight = excluded.weight, actor = excluded.actor, changed_at = now();
    end if;
    insert into pgqueue.note (node_id, kind) select gate.id, 'gate' from pgqueue.gate where gate.id = gate_id;
end
$$;

-- Note up to `most` windows with room for jobs that wait in `lanes`, from `after` on, and then from the first one on:
-- what they had let through was claimed. Returns the notes, by which they are attended to.
create function pgqueue.refill(lanes integer[], after uuid, most integer) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    notes bigint[];
begin
    with candidate as materialized (
        select next_one.gate, of_call.lane
        from unnest(refill.lanes) as of_call (lane)
        cross join lateral (
            (select window_lane.gate, 1 as turn from pgqueue.window_lane
             where window_lane.lane = of_call.lane and window_lane.gate > refill.after
             order by window_lane.gate limit most)
            union all
            (select window_lane.gate, 2 from pgqueue.window_lane
             where window_lane.lane = of_call.lane and window_lane.gate <= refill.after
             order by window_lane.gate limit most)
            limit most
        ) as next_one
        limit most
    ),
    with_room as (
        select distinct candidate.gate
        from candidate
        join (select gate.id, gate.rule from pgqueue.gate where gate.id = any(array(select gate from candidate))) as gate
            on gate.id = candidate.gate
        left join pgqueue.limit_rule as rule on rule.name = gate.rule
        cross join lateral (
            select coalesce((select gate_state.let from pgqueue.gate_state where gate_state.gate = candidate.gate
                             order by gate_state.number desc limit 1), '{}') as let
        ) as state
        where rule.slots is null
           or (select count(*) from pgqueue.ready where ready.job_id = any(state.let) and ready.lane = candidate.lane)
              + (select count(*) from pgqueue.blocked
                 where blocked.job_id = any(state.let) and blocked.gate <> candidate.gate and blocked.lane = candidate.lane)
              < greatest(1, round(rule.slots * coalesce(
                  (select present.weight from pgqueue.window_weight as present where present.gate = candidate.gate), 1)))
    ),
    -- Removed as idle, while what had waited was removed by hand.
    gone as (
        delete from pgqueue.window_lane
        where window_lane.lane = any(refill.lanes) and window_lane.gate = any(array(
            select candidate.gate from candidate
            where not exists (select from pgqueue.gate where gate.id = candidate.gate)
              and not exists (select from pgqueue.blocked where blocked.gate = candidate.gate)))
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind, released) select with_room.gate, 'gate', 0 from with_room returning id
    )
    select array_agg(id) into notes from fresh;
    return notes;
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
            -- Each key has as many places as its weight says.
            ('attend_gates', E'rule.when_full, rule.slots, rule.rate,\n',
             E'rule.when_full, rule.rate,\n'
             '               case when rule.kind = ''window'' then least(1e6, greatest(1, round(rule.slots * coalesce(\n'
             '                   (select given.weight from pgqueue.window_weight as given where given.gate = gate.id), 1))))::integer\n'
             '               else rule.slots end as slots,\n'),
            -- Where it has let none through, that is none, and not any number.
            ('attend_gates', E'room.slots - cardinality(array_positions(room.in_lanes, spot.lane))',
             E'room.slots - coalesce(cardinality(array_positions(room.in_lanes, spot.lane)), 0)'),
            -- What a window lets through comes last in its lane: by its old position it would be before all newcomers.
            ('attend_gates', E'        select picking.id as gate, pick.job_id, pick.number\n',
             E'        select picking.id as gate, picking.kind, pick.job_id, pick.number\n'),
            ('attend_gates', E'set gate = way.next, turn = nextval(''pgqueue.position'')\n',
             E'set gate = way.next, turn = nextval(''pgqueue.position''),\n'
             '            position = case when way.kind <> ''window'' then blocked.position end\n'),
            ('attend_gates', E'        delete from pgqueue.blocked\n'
             '        where blocked.job_id = any(array(select job_id from way where next is null))\n'
             '        returning blocked.job_id, blocked.lane, blocked.position, blocked.attempt, blocked.losses, blocked.turn\n',
             E'        delete from pgqueue.blocked\n'
             '        using way\n'
             '        where blocked.job_id = way.job_id and way.next is null\n'
             '          and blocked.job_id = any(array(select job_id from way where next is null))\n'
             '        returning blocked.job_id, blocked.lane, case when way.kind <> ''window'' then blocked.position end as position,\n'
             '                  blocked.attempt, blocked.losses, blocked.turn, case when way.kind = ''window'' then way.number end as number\n'),
            -- The first of each key, then the second of each: not by their turns, or the oldest key had the first places.
            ('attend_gates', E'        from moved order by moved.turn\n',
             E'        from moved\n'
             '        order by moved.number nulls first, case when moved.number is not null then random() end, moved.turn\n'),
            -- Workers find where jobs wait.
            ('attend_gates', E'    follows as (\n',
             E'    left_lane as materialized (\n'
             '        select spot.lane, outcome.id as gate\n'
             '        from outcome cross join lateral unnest(outcome.old_lanes) as spot (lane)\n'
             '        where outcome.kind = ''window'' and spot.lane <> all(outcome.new_lanes)\n'
             '    ),\n'
             '    none_wait as (\n'
             '        delete from pgqueue.window_lane\n'
             '        where window_lane.lane = any(array(select left_lane.lane from left_lane))\n'
             '          and window_lane.gate = any(array(select left_lane.gate from left_lane))\n'
             '          and (window_lane.lane, window_lane.gate) in (select left_lane.lane, left_lane.gate from left_lane)\n'
             '    ),\n'
             '    some_wait as (\n'
             '        insert into pgqueue.window_lane (lane, gate)\n'
             '        select spot.lane, outcome.id\n'
             '        from outcome cross join lateral unnest(outcome.new_lanes) as spot (lane)\n'
             '        where outcome.kind = ''window'' and (outcome.anew or spot.lane <> all(outcome.old_lanes))\n'
             '        on conflict do nothing\n'
             '    ),\n'
             '    follows as (\n'),
            -- A job that goes on after a wait has its old place.
            ('gate_in', E' else nextval(''pgqueue.position'') end\n        from moved', E' else moved.position end\n        from moved')
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
