-- 0048 fewer looks: attending to a limit or an order looks its gate up once, and reads a record only where it has to.
-- works with: 1
-- Workers may keep running: what is done stays the same.

-- Not immutable, as convert_to is not: so it is part of the statement that calls it, which costs a tenth.
create or replace function pgqueue.key_id(scope text, name text) returns uuid
language sql stable parallel safe
return encode(substring(sha256(convert_to(scope, 'UTF8') || '\x00'::bytea || convert_to(name, 'UTF8')) from 1 for 16), 'hex')::uuid;

-- Lock `gates`, and make those that are missing and that jobs wait at. Returns those that the caller now has with their
-- rules, which of them it has made, and the notes that it wrote of those that another transaction makes just now. What
-- is read in a later statement is what was committed before the lock.
create function pgqueue.hold_gates(
    gates uuid[], out held uuid[], out rules text[], out made uuid[], out more bigint[]
) returns record language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    missing uuid[];
    new_rules text[];
begin
    select array_agg(locked.id), array_agg(locked.rule) into held, rules
    from (select gate.id, gate.rule from pgqueue.gate where gate.id = any(hold_gates.gates)
          order by gate.id for update) as locked;
    if cardinality(held) = cardinality(gates) then
        return;
    end if;
    missing := array(select unnest(gates) except select unnest(held));
    if missing = '{}' then
        return;
    end if;
    with first as materialized (
        select given.id as gate,
               (select blocked.job_id from pgqueue.blocked where blocked.gate = given.id limit 1) as job_id
        from unnest(missing) as given (id)
    ),
    named as materialized (
        select distinct on (first.gate) first.gate, job.gates[2 * number - 1] as rule, job.gates[2 * number] as key
        from first
        join (
            select job.id, job.gates from pgqueue.job
            where job.id = any(array(select first.job_id from first))
              -- What lies outside is not looked into, day by day.
              and job.id >= (select first.job_id from first order by first.job_id limit 1)
              and job.id <= (select first.job_id from first where first.job_id is not null order by first.job_id desc limit 1)
        ) as job on job.id = first.job_id
        cross join lateral generate_series(1, cardinality(job.gates) / 2) as number
        where pgqueue.key_id(job.gates[2 * number - 1], job.gates[2 * number]) = first.gate
        order by first.gate
    ),
    fresh as (
        insert into pgqueue.gate (id, rule, key) select named.gate, named.rule, named.key from named order by named.gate
        on conflict do nothing
        returning id, rule
    ),
    -- Made by another one meanwhile, or (for the upkeep) not to be named.
    later as (
        insert into pgqueue.note (node_id, kind)
        select first.gate, 'gate' from first where first.job_id is not null and first.gate not in (select fresh.id from fresh)
        returning id, node_id
    )
    select (select array_agg(fresh.id) from fresh), (select array_agg(fresh.rule) from fresh),
           (select array_agg(later.id) from later where later.node_id in (select named.gate from named))
    into made, new_rules, more;
    held := held || made;
    rules := rules || new_rules;
end
$$;

-- See 0031. `lines` are held by the caller.
create or replace function pgqueue.attend_lines(lines uuid[], out more bigint[], out lanes integer[])
returns record language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    busy uuid[];
begin
    -- See hold_gates. A new snapshot since the lock: whoever was let through, and whoever has stopped a line, is seen.
    with first as materialized (
        select line.id as gate, next.job_id, next.turn, next.lane, next.single
        from (
            select unnest(attend_lines.lines) as id
            except
            select gate_pass.gate from pgqueue.gate_pass where gate_pass.gate = any(attend_lines.lines)
        ) as line
        -- The first in the lowest lane, and whether there are others.
        cross join lateral (
            select blocked.job_id, blocked.turn, blocked.lane, blocked.single from pgqueue.blocked
            where blocked.gate = line.id order by blocked.lane, blocked.turn limit 1
        ) as low
        cross join lateral (
            select low.lane = (
                select blocked.lane from pgqueue.blocked
                where blocked.gate = line.id order by blocked.lane desc, blocked.turn desc limit 1) as is_alone
        ) as spot
        cross join lateral (
            select low.job_id, low.turn, low.lane, low.single where spot.is_alone
            union all
            select of_lanes.* from (
                with recursive found (lane) as (
                    select low.lane
                    union all
                    select (select blocked.lane from pgqueue.blocked
                            where blocked.gate = line.id and blocked.lane > found.lane order by blocked.lane limit 1)
                    from found where found.lane is not null
                )
                select of_lane.job_id, of_lane.turn, found.lane, of_lane.single
                from found
                cross join lateral (
                    select blocked.job_id, blocked.turn, blocked.single from pgqueue.blocked
                    where blocked.gate = line.id and blocked.lane = found.lane order by blocked.turn limit 1
                ) as of_lane
                where not spot.is_alone
                order by of_lane.turn limit 1
            ) as of_lanes
        ) as next
    ),
    head as materialized (
        select first.gate, first.job_id, first.single
        from first
        where (select lane.paused from pgqueue.lane where lane.id = first.lane) is not true
          -- Never past what stops it, however many these are.
          and (select true from pgqueue.stopped
               where stopped.gate = first.gate and (stopped.halts or stopped.turn < first.turn) limit 1) is null
    ),
    -- Whoever cancels one has it, and nobody else is let through instead of it.
    mine as materialized (
        select blocked.job_id from pgqueue.blocked
        where blocked.job_id = any(array(select head.job_id from head)) and blocked.gate = any(attend_lines.lines)
        for update skip locked
    ),
    chosen as materialized (
        -- Most have no other gate and no workflow: their records are not read.
        select head.gate, head.job_id, null::text[] as gates, null::uuid as workflow_id
        from head join mine on mine.job_id = head.job_id
        where head.single
        union all
        select head.gate, head.job_id, job.gates, job.workflow_id
        from head
        join (
            select job.id, job.gates, job.workflow_id from pgqueue.job
            where job.id = any(array(select mine.job_id from mine except select head.job_id from head where head.single))
        ) as job on job.id = head.job_id
    ),
    -- Whoever lets one of these go on just now has looked for those that left already: that is for the next time.
    sure as materialized (
        select workflow.id from pgqueue.workflow
        where workflow.paused_at is not null
          and workflow.id = any(array(select chosen.workflow_id from chosen where chosen.workflow_id is not null))
        for share skip locked
    ),
    aside as (
        update pgqueue.blocked set gate = null, turn = null, is_due = true
        where blocked.job_id = any(array(select chosen.job_id from chosen where chosen.workflow_id in (select id from sure)))
        returning blocked.job_id
    ),
    way as materialized (
        select chosen.gate, chosen.job_id,
               case when cardinality(chosen.gates) > 2 then pgqueue.next_gate(chosen.job_id, chosen.gates[3:]) end as next
        from chosen
        where chosen.workflow_id is null
           or (select workflow.paused_at from pgqueue.workflow where workflow.id = chosen.workflow_id) is null
    ),
    passed as (
        insert into pgqueue.gate_pass (gate, job_id, kept) select way.gate, way.job_id, true from way on conflict do nothing
    ),
    further as (
        update pgqueue.blocked set gate = way.next, turn = nextval('pgqueue.position')
        from way
        where blocked.job_id = way.job_id and way.next is not null
          and blocked.job_id = any(array(select job_id from way where next is not null))
        returning blocked.gate, blocked.lane, blocked.turn
    ),
    moved as (
        delete from pgqueue.blocked
        where blocked.job_id = any(array(select job_id from way where next is null))
        returning blocked.job_id, blocked.lane, blocked.position, blocked.attempt, blocked.losses
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, position, attempt, losses)
        select moved.job_id, moved.lane, coalesce(moved.position, nextval('pgqueue.position')), moved.attempt, moved.losses
        from moved
        on conflict do nothing
        returning lane
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind, lane, low)
        select further.gate, 'gate', further.lane, min(further.turn) from further group by further.gate, further.lane
        union all
        select chosen.gate, 'gate', null, null from chosen where chosen.job_id in (select job_id from aside)
        returning id
    )
    select array(select distinct lane from queued), array(select id from fresh),
           array(select head.gate from head
                 where head.job_id not in (select job_id from way) and head.job_id not in (select job_id from aside))
    into lanes, more, busy;
    -- Left in the table: looked at again by the upkeep, not at once.
    insert into pgqueue.note (node_id, kind) select id, 'gate' from unnest(busy) as id;
end
$$;

-- By replacement, as other migrations do it: whatever else these have become stays.
do $migration$
declare
    change record;
    definition text;
    present text;
begin
    for change in
        select * from (values
            ('attend_gates', $was$attend_gates(gates uuid[], mine bigint[]$was$,
             $new$attend_gates(gates uuid[], rules text[], made uuid[], mine bigint[]$new$),
            ('attend_gates', $was$    made uuid[];
    held uuid[];
    rules text[];
$was$,
             $new$$new$),
            ('attend_gates', $was$    made := array(
        select unnest(gates) except select gate.id from pgqueue.gate where gate.id = any(attend_gates.gates));
    if made <> '{}' then
    with first as materialized (
        select given.id as gate,
               (select blocked.job_id from pgqueue.blocked where blocked.gate = given.id limit 1) as job_id
        from unnest(made) as given (id)
    ),
    fresh as (
        insert into pgqueue.gate (id, rule, key)
        select distinct on (first.gate) first.gate, job.gates[2 * number - 1], job.gates[2 * number]
        from first
        join (select job.id, job.gates from pgqueue.job
              where job.id = any(array(select first.job_id from first))) as job on job.id = first.job_id
        cross join lateral generate_series(1, cardinality(job.gates) / 2) as number
        where pgqueue.key_id(job.gates[2 * number - 1], job.gates[2 * number]) = first.gate
        order by first.gate
        on conflict do nothing
        returning id
    )
    select array_agg(id) into made from fresh;
    end if;
    select array_agg(locked.id), array_agg(locked.rule) into held, rules
    from (select gate.id, gate.rule from pgqueue.gate where gate.id = any(attend_gates.gates)
          order by gate.id for update) as locked;
$was$,
             $new$$new$),
            ('attend_gates', $was$    -- From here on a new snapshot: passes and states are written under that lock alone.
    select * into simple from pgqueue.attend_simple_gates(held, rules$was$,
             $new$    -- See hold_gates: a new snapshot, since the lock.
    select * into simple from pgqueue.attend_simple_gates(gates, rules$new$),
            ('attend_gates', $was$,
           (select count(*) from known) < cardinality(attend_gates.gates)
    into lanes, halted, more, full_ones, later, due, is_gone;
$was$,
             $new$
    into lanes, halted, more, full_ones, later, due;
$new$),
            ('attend_gates', $was$    refused uuid;
    is_gone boolean;
$was$,
             $new$    refused uuid;
$new$),
            ('attend_gates', $was$    if is_gone then
        -- Removed as idle just now.
        insert into pgqueue.note (node_id, kind)
        select given.id, 'gate' from unnest(attend_gates.gates) as given (id)
        where (select true from pgqueue.gate where gate.id = given.id) is null
          and exists (select from pgqueue.blocked where blocked.gate = given.id);
    end if;
$was$,
             $new$$new$),
            ('attend', $was$    if gates <> '{}' then
        lines := pgqueue.lines_of(gates);
        if lines <> '{}' then
            select * into let_through from pgqueue.attend_lines(lines);
            more := more || let_through.more;
            lanes := lanes || let_through.lanes;
            gates := array(select given.id from unnest(gates) as given (id) where given.id <> all(lines));
        end if;
    end if;
    if gates <> '{}' then
        select * into let_through from pgqueue.attend_gates(gates, mine, 500);
        more := more || let_through.more;
        lanes := lanes || let_through.lanes;
        later := let_through.later;
        due := let_through.due;
        cancelled := cancelled || let_through.cancelled;
    end if;
$was$,
             $new$    if gates <> '{}' then
        select * into hold from pgqueue.hold_gates(gates);
        more := more || hold.more;
        select array_agg(held.id) filter (where held.is_line), array_agg(held.id) filter (where not held.is_line),
               array_agg(held.rule) filter (where not held.is_line)
        into lines, gates, rules
        from (select id, rule, starts_with(rule, 'order/') as is_line from unnest(hold.held, hold.rules) as each (id, rule)) as held;
        if lines is not null then
            select * into let_through from pgqueue.attend_lines(lines);
            more := more || let_through.more;
            lanes := lanes || let_through.lanes;
        end if;
        if gates is not null then
            select * into let_through from pgqueue.attend_gates(gates, rules, hold.made, mine, 500);
            more := more || let_through.more;
            lanes := lanes || let_through.lanes;
            later := let_through.later;
            due := let_through.due;
            cancelled := cancelled || let_through.cancelled;
        end if;
    end if;
$new$),
            ('attend', $was$    lines uuid[];
$was$,
             $new$    lines uuid[];
    rules text[];
    hold record;
$new$),
            ('refill', $was$        select * into let_through from pgqueue.attend_gates(gates, notes, 500);
$was$,
             $new$        select * into hold from pgqueue.hold_gates(gates);
        select * into let_through from pgqueue.attend_gates(hold.held, hold.rules, hold.made, notes, 500);
$new$),
            ('refill', $was$        more := let_through.more;
$was$,
             $new$        more := hold.more || let_through.more;
$new$),
            ('refill', $was$    let_through record;
$was$,
             $new$    let_through record;
    hold record;
$new$),
            ('attend_simple_gates', $was$            where blocked.gate = heard.gate order by blocked.lane, blocked.turn limit 1
        ) as spot on heard.anew
$was$,
             $new$            -- Inside: as a condition on the join it would be looked up for all.
            where blocked.gate = heard.gate and heard.anew order by blocked.lane, blocked.turn limit 1
        ) as spot on true
$new$),
            ('attend_simple_gates', $was$        where gate_state.gate = any(array(select fresh.gate from fresh))
          and gate_state.number >= (
              select min(outcome.number) from outcome where outcome.gate in (select fresh.gate from fresh))
$was$,
             $new$        where gate_state.gate = any(array(
              select outcome.gate from outcome where outcome.number is not null and outcome.gate in (select fresh.gate from fresh)))
          and gate_state.number >= (
              select min(outcome.number) from outcome where outcome.gate in (select fresh.gate from fresh))
$new$)
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
$migration$;

drop function pgqueue.attend_gates(uuid[], bigint[], integer);
drop function pgqueue.lines_of(uuid[]);
