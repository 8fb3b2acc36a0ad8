-- 0030 kinds: limits by rate and by window, and gates that remember what is in use.
-- works with: 1
-- Workers may keep running: what the gates remember is written by these functions, and asked for anew where old
-- statements do not say it.

alter table pgqueue.limit_rule
    add column kind text not null default 'slots' check (kind in ('slots', 'rate', 'window')),
    add column rate double precision check (rate between 1e-9 and 1e6),   -- a second, of each key; null: any
    add column burst integer check (burst between 1 and 10000);           -- let through at once after a rest

-- What a note of a gate says: how many passes of it were given back; or that jobs came, the first of them in `lane` at
-- `low`; or that it is closed until a time; or, with `released` 0, that there is more to do. Nothing: look at all.
alter table pgqueue.note
    add column released integer,
    add column lane integer,
    add column low bigint,
    add column closed_until timestamptz,
    add column due_at timestamptz;                -- not to be looked at before; null: now

-- What is known of a gate: of its rows the newest counts. Replaced, not updated, and read from its newest end, so that
-- a snapshot that is held somewhere does not make it dearer. Written under the lock of the gate.
create table pgqueue.gate_state (
    gate   uuid not null,
    number bigint not null check (number > 0),
    in_use integer not null check (in_use >= 0),  -- its passes, and those given back that nobody has attended to
    tokens double precision not null check (tokens between 0 and 1e6),   -- what a rate had left at `at`
    at     timestamptz not null,
    closed double precision not null default 0 check (closed between 0 and 604800),  -- seconds from `at`: none passes
    let    uuid[] not null,                       -- of a rate or a window: those let through that nobody had claimed
    lanes  integer[] not null,                    -- where jobs wait, and
    lows   bigint[] not null,                     -- the turn below which none does
    look   bigint,                                -- the note that has it looked at again
    primary key (gate, number)
);

alter table pgqueue.blocked add constraint blocked_turn_check check (gate is null or turn is not null) not valid;

-- See 0028. The notes say where the jobs wait.
create or replace function pgqueue.gate_in(ids uuid[], places bigint default null) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    notes bigint[];
begin
    with gated as materialized (
        select job.id, pgqueue.next_gate(job.id, job.gates) as gate
        from pgqueue.job
        where job.id = any(ids) and job.hooks & 4 > 0
    ),
    moved as (
        delete from pgqueue.ready
        where job_id = any(array(select id from gated where gate is not null))
        returning job_id, lane, position, attempt, losses
    ),
    waiting as (
        insert into pgqueue.blocked (job_id, lane, position, attempt, losses, gated, gate, turn)
        select moved.job_id, moved.lane, moved.position, moved.attempt, moved.losses, true, gated.gate,
               nextval('pgqueue.position')
        from moved join gated on gated.id = moved.job_id
        order by moved.position
        returning gate, lane, turn
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind, lane, low)
        select gate, 'gate', lane, min(turn) from waiting group by gate, lane returning id
    )
    select array_agg(id) into notes from fresh;
    update pgqueue.scheduled set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = scheduled.job_id) > 0;
    update pgqueue.blocked set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = blocked.job_id) > 0;
    return notes;
end
$$;

-- See 0028. The notes say how many passes were given back.
create or replace function pgqueue.give_back(ids uuid[], places bigint default null) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    notes bigint[];
begin
    with freed as (
        delete from pgqueue.gate_pass where job_id = any(ids) returning gate
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind, released) select gate, 'gate', count(*) from freed group by gate returning id
    )
    select array_agg(id) into notes from fresh;
    update pgqueue.scheduled set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = scheduled.job_id) > 0;
    update pgqueue.blocked set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = blocked.job_id) > 0;
    return notes;
end
$$;

-- Let jobs through `gates`, as far as there is room: each to its next gate, or to be ready. What a full limit does not
-- let wait is cancelled. Members of paused workflows leave the gate, hold nothing, and come again when these go on.
-- Waits for nobody who holds a job. `mine` are notes that the caller has taken, and removes. Returns the notes that
-- follow, lanes with new ready jobs, the jobs that were cancelled, and the notes that are to be attended to later, in
-- `due` seconds.
drop function pgqueue.attend_gates(uuid[], integer);
create function pgqueue.attend_gates(
    gates uuid[], mine bigint[], most integer,
    out more bigint[], out lanes integer[], out cancelled uuid[], out later bigint[], out due double precision[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    made uuid[];
    halted uuid[];
    full_ones uuid[];
    refused uuid;
    is_gone boolean;
begin
    cancelled := '{}';
    with fresh as (
        insert into pgqueue.gate (id, rule, key)
        select distinct on (first.gate) first.gate, job.gates[2 * number - 1], job.gates[2 * number]
        from (
            select given.id as gate,
                   (select blocked.job_id from pgqueue.blocked where blocked.gate = given.id limit 1) as job_id
            from unnest(attend_gates.gates) as given (id)
            where not exists (select from pgqueue.gate where gate.id = given.id)
        ) as first
        join pgqueue.job on job.id = first.job_id
        cross join lateral generate_series(1, cardinality(job.gates) / 2) as number
        where pgqueue.key_id(job.gates[2 * number - 1], job.gates[2 * number]) = first.gate
        order by first.gate
        on conflict do nothing
        returning id
    )
    select array_agg(id) into made from fresh;
    perform from pgqueue.gate where gate.id = any(attend_gates.gates) order by gate.id for update;
    -- From here on a new snapshot: passes and states are written under that lock alone.
    with told as materialized (
        select heard.gate, coalesce(sum(greatest(heard.released, 0)), 0) as released,
               max(heard.closed_until) as closed_until,
               bool_or(heard.released is null and heard.lane is null and heard.closed_until is null) as anew,
               array_agg(heard.lane) filter (where heard.lane is not null) as lanes,
               array_agg(heard.low) filter (where heard.lane is not null) as lows
        from (
            select note.node_id as gate, note.released, note.lane, note.low, note.closed_until
            from pgqueue.note where note.id = any(mine) and note.kind = 'gate'
            union all
            -- Without a note: looked at anew.
            select given.id, null, null, null, null from unnest(attend_gates.gates) as given (id)
            where given.id <> all(array(select note.node_id from pgqueue.note where note.id = any(mine) and note.kind = 'gate'))
        ) as heard
        group by heard.gate
    ),
    -- Given back, and not attended to.
    pending as materialized (
        select note.node_id as gate, sum(note.released) as released
        from pgqueue.note where note.kind = 'gate' and note.released > 0 group by note.node_id
    ),
    known as materialized (
        select gate.id, coalesce(rule.kind, 'slots') as kind, rule.when_full, rule.slots, rule.rate,
               coalesce(rule.burst, 1) as burst, state.number, state.look, state.in_use as was_in_use,
               state.lanes as old_lanes, state.lows as old_lows, state.let as old_let, since.was_set_back,
               least(2147483647, greatest(0, case
                   when state.number is not null then state.in_use
                   when gate.id = any(made) then 0
                   else (select count(*) from pgqueue.gate_pass where gate_pass.gate = gate.id)
                        + coalesce((select pending.released from pending where pending.gate = gate.id), 0)
               end - told.released))::integer as in_use,
               case when told.until > 0 then 0
                    when state.number is null then coalesce(rule.burst, 1)
                    else least(coalesce(rule.burst, 1),
                               state.tokens + coalesce(rule.rate, 0) * greatest(since.seconds - state.closed, 0))
               end as tokens,
               least(604800, greatest(0, state.closed - since.seconds, told.until)) as closed,
               told.until > 0 as is_closed,
               -- Where jobs may wait, the first turn of each lane.
               array(select distinct place.lane from (
                   select unnest(state.lanes) union all select unnest(told.lanes)
                   union all
                   select unnest(case when told.anew or state.number is null then array(
                       with recursive found (lane) as (
                           (select blocked.lane from pgqueue.blocked where blocked.gate = gate.id order by blocked.lane limit 1)
                           union all
                           select (select blocked.lane from pgqueue.blocked
                                   where blocked.gate = gate.id and blocked.lane > found.lane order by blocked.lane limit 1)
                           from found where found.lane is not null
                       )
                       select found.lane from found) end)
               ) as place (lane) where place.lane is not null) as lanes,
               told.anew or state.number is null as anew, told.lanes as told_lanes, told.lows as told_lows
        from (select heard.*, extract(epoch from heard.closed_until)::double precision
                              - extract(epoch from clock_timestamp())::double precision as until
              from told as heard) as told
        join (select * from pgqueue.gate where gate.id = any(attend_gates.gates)) as gate on gate.id = told.gate
        left join pgqueue.limit_rule as rule on rule.name = gate.rule
        left join lateral (
            select gate_state.* from pgqueue.gate_state
            where gate_state.gate = gate.id order by gate_state.number desc limit 1
        ) as state on true
        cross join lateral (
            -- The clock may have been set back.
            select greatest(0, extract(epoch from clock_timestamp())::double precision
                               - extract(epoch from state.at)::double precision) as seconds,
                   state.at > clock_timestamp() as was_set_back
        ) as since
    ),
    held as materialized (
        select known.*,
               array(
                   select case when known.anew then (-9223372036854775808)::bigint else (
                       select min(low) from (
                           select low from unnest(known.old_lanes, known.old_lows) as place (lane, low) where place.lane = spot.lane
                           union all
                           select low from unnest(known.told_lanes, known.told_lows) as place (lane, low) where place.lane = spot.lane
                       ) as place) end
                   from unnest(known.lanes) with ordinality as spot (lane, number) order by spot.number) as lows,
               array(
                   select (select lane.paused from pgqueue.lane where lane.id = spot.lane) is true
                   from unnest(known.lanes) with ordinality as spot (lane, number) order by spot.number) as paused,
               unclaimed.let, unclaimed.in_lanes
        from known
        -- Of those let through, the ones that nobody has claimed, and their lanes. What would not be claimed does not
        -- count: jobs of paused queues, and those that are put aside.
        cross join lateral (
            select coalesce(array_agg(stands.job_id), '{}') as let,
                   array_agg(stands.lane) filter (where (
                       select not lane.paused and lane.task = '' from pgqueue.lane where lane.id = stands.lane)) as in_lanes
            from (
                select ready.job_id, ready.lane from pgqueue.ready where ready.job_id = any(known.old_let)
                union all
                select blocked.job_id, blocked.lane from pgqueue.blocked
                where blocked.job_id = any(known.old_let) and blocked.gate <> known.id
                  and exists (select from pgqueue.gate_pass
                              where gate_pass.gate = known.id and gate_pass.job_id = blocked.job_id)
            ) as stands
            where known.old_let <> '{}'
        ) as unclaimed
    ),
    room as materialized (
        select held.*, greatest(0, least(most, case
            when held.kind = 'slots' then coalesce(held.slots - held.in_use, most)
            when held.kind = 'window' or held.rate is null then most
            when held.closed > 0 then 0
            else least(floor(held.tokens)::integer, held.burst - coalesce(cardinality(held.in_lanes), 0))
        end)) as free
        from held
    ),
    door as materialized (
        select room.*, array(
            select case when spot.paused then 0
                        when room.kind = 'window' and room.slots is not null
                        then greatest(0, least(room.free, room.slots - cardinality(array_positions(room.in_lanes, spot.lane))))
                        else room.free end
            from unnest(room.lanes, room.paused) with ordinality as spot (lane, paused, number)
            order by spot.number) as frees
        from room
    ),
    picking as materialized (
        select door.*, array(
            select first.job_id
            -- By lane: what would not be claimed must not hold what others wait for.
            from unnest(door.lanes, door.lows, door.frees) as spot (lane, low, free)
            cross join lateral (
                select blocked.job_id, blocked.turn
                from pgqueue.blocked
                where blocked.gate = door.id and blocked.lane = spot.lane and blocked.turn >= spot.low
                order by blocked.turn
                limit spot.free
                -- Whoever cancels one has it; a note has it looked at again.
                for update skip locked
            ) as first
            where spot.free > 0
            order by first.turn
            limit door.free) as picked
        from door
    ),
    chosen as materialized (
        select picking.id as gate, pick.job_id, pick.number
        from picking cross join lateral unnest(picking.picked) with ordinality as pick (job_id, number)
    ),
    paused as materialized (
        select member.id as job_id, workflow.id as workflow
        from (select job.id, job.workflow_id from pgqueue.job
              where job.id = any(array(select job_id from chosen)) and job.workflow_id is not null) as member
        join pgqueue.workflow on workflow.id = member.workflow_id
        where workflow.paused_at is not null
    ),
    -- Whoever lets one of these go on just now has looked for those that left already: that is for the next time.
    sure as materialized (
        select workflow.id from pgqueue.workflow
        where workflow.paused_at is not null and workflow.id = any(array(select workflow from paused))
        for share skip locked
    ),
    aside as (
        update pgqueue.blocked set gate = null, turn = null, is_due = true
        where blocked.job_id = any(array(select paused.job_id from paused where paused.workflow in (select id from sure)))
        returning blocked.job_id
    ),
    admitted as materialized (
        select * from chosen where chosen.job_id <> all(array(select paused.job_id from paused))
    ),
    passed as (
        insert into pgqueue.gate_pass (gate, job_id) select admitted.gate, admitted.job_id from admitted on conflict do nothing
    ),
    way as materialized (
        select admitted.*, (
            select other.gate
            from (select number, pgqueue.key_id(job.gates[2 * number - 1], job.gates[2 * number]) as gate
                  from generate_series(1, cardinality(job.gates) / 2) as number) as other
            where other.gate <> admitted.gate
              and not exists (
                  select from pgqueue.gate_pass
                  where gate_pass.gate = other.gate and gate_pass.job_id = admitted.job_id)
            order by other.number limit 1) as next
        from admitted
        join (select job.id, job.gates from pgqueue.job where job.id = any(array(select job_id from admitted))) as job
            on job.id = admitted.job_id
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
        select picking.*, went.passes, went.stays, went.leaves,
               rest.lanes as new_lanes, rest.lows as new_lows, rest.is_open,
               went.leaves or (rest.is_open and cardinality(picking.picked) = most) as goes_on
        from picking
        cross join lateral (
            select cardinality(picking.picked) - coalesce(sum(1), 0)::integer as passes,
                   coalesce(bool_or(paused.job_id not in (select aside.job_id from aside)), false) as stays,
                   coalesce(bool_or(paused.job_id in (select aside.job_id from aside)), false) as leaves
            from paused where paused.job_id = any(picking.picked)
        ) as went
        -- Where jobs still wait, and whether any does where it could be let through.
        cross join lateral (
            select coalesce(array_agg(spot.lane order by spot.lane), '{}') as lanes,
                   coalesce(array_agg(spot.low order by spot.lane), '{}') as lows,
                   coalesce(bool_or(not spot.paused), false) as is_open
            from (
                select each.lane, each.paused, case when each.free <= 0 then each.low else (
                    select blocked.turn from pgqueue.blocked
                    where blocked.gate = picking.id and blocked.lane = each.lane and blocked.turn >= each.low
                      and blocked.job_id <> all(picking.picked)
                    order by blocked.turn limit 1) end as low
                from unnest(picking.lanes, picking.lows, picking.frees, picking.paused) as each (lane, low, free, paused)
            ) as spot
            where spot.low is not null
        ) as rest
    ),
    -- A time has to pass: for tokens, or until somebody lets go of a job.
    waits as materialized (
        select outcome.id, outcome.kind = 'rate' and outcome.rate is not null as has_rate, least(60, greatest(0.05, case
            when outcome.kind <> 'rate' or outcome.rate is null or outcome.passes < outcome.free then 1
            when outcome.closed > 0 then outcome.closed + 1 / outcome.rate
            when outcome.tokens - outcome.passes < 1 then (1 - outcome.tokens + outcome.passes) / outcome.rate
            else 0.2
        end)) as due
        from outcome
        where outcome.is_open and not outcome.goes_on
          and ((outcome.kind = 'rate' and outcome.rate is not null) or outcome.passes < outcome.free and outcome.kind <> 'window')
          -- One at a time.
          and (outcome.look is null or outcome.look = any(mine)
               or not exists (select from pgqueue.note where note.id = outcome.look))
    ),
    looks as (
        insert into pgqueue.note (node_id, kind, released, due_at)
        select waits.id, 'gate', 0, clock_timestamp() + make_interval(secs => waits.due) from waits
        returning id, node_id, due_at
    ),
    fresh as (
        insert into pgqueue.gate_state (gate, number, in_use, tokens, at, closed, let, lanes, lows, look)
        select outcome.id, coalesce(outcome.number % 4611686018427387904, 0) + 1,
               least(2147483647, outcome.in_use::bigint + outcome.passes),
               greatest(0, case when outcome.kind = 'rate' then outcome.tokens - outcome.passes else 0 end), clock_timestamp(),
               outcome.closed,
               case when outcome.kind = 'window' and outcome.slots is not null or outcome.kind = 'rate' and outcome.rate is not null
                    then outcome.let || case when outcome.stays or outcome.leaves then array(
                            select admitted.job_id from admitted where admitted.job_id = any(outcome.picked)) else outcome.picked end
                    else '{}' end,
               outcome.new_lanes, outcome.new_lows, coalesce(looks.id, outcome.look)
        from outcome left join looks on looks.node_id = outcome.id
        where outcome.number is null or outcome.passes > 0 or looks.id is not null or outcome.is_closed or outcome.was_set_back
           or outcome.in_use <> outcome.was_in_use
           or outcome.new_lanes <> outcome.old_lanes or outcome.new_lows <> outcome.old_lows
        returning gate, number
    ),
    -- Those of before: what this statement inserts it does not see. From the lowest number on, as those that are gone
    -- are in the index still.
    old as (
        delete from pgqueue.gate_state
        where gate_state.gate = any(array(select fresh.gate from fresh))
          and gate_state.number >= (
              select min(outcome.number) from outcome where outcome.id in (select fresh.gate from fresh))
    ),
    follows as (
        insert into pgqueue.note (node_id, kind, released, lane, low)
        select further.gate, 'gate', null::integer, further.lane, min(further.turn) from further group by further.gate, further.lane
        union all
        select outcome.id, 'gate', 0, null, null from outcome where outcome.goes_on
        returning id
    ),
    -- For the upkeep: the workflow of one is just being paused, or goes on.
    unsure as (
        insert into pgqueue.note (node_id, kind) select outcome.id, 'gate' from outcome where outcome.stays
    )
    select array(select distinct lane from queued), array(select job_id from aside), (select array_agg(id) from follows),
           array(select outcome.id from outcome
                 where outcome.when_full in ('drop', 'replace') and outcome.passes >= outcome.free and not outcome.goes_on),
           (select array_agg(looks.id order by looks.id) from looks join waits on waits.id = looks.node_id where waits.has_rate),
           (select array_agg(waits.due order by looks.id) from looks join waits on waits.id = looks.node_id where waits.has_rate),
           (select count(*) from known) < cardinality(attend_gates.gates)
    into lanes, halted, more, full_ones, later, due, is_gone;
    if halted <> '{}' then
        more := more || pgqueue.give_back(halted);
    end if;
    -- Of what is full, what may not wait.
    if full_ones <> '{}' then
        for refused in
            select waiting.job_id
            from (select gate.id, rule.when_full from pgqueue.gate join pgqueue.limit_rule as rule on rule.name = gate.rule
                  where gate.id = any(full_ones)) as full_one
            cross join lateral (
                select blocked.job_id
                from pgqueue.blocked
                where blocked.gate = full_one.id
                  -- What has started stays.
                  and blocked.attempt = 0 and blocked.losses = 0
                  and (full_one.when_full = 'drop' or blocked.turn < (
                      select max(newest.turn) from pgqueue.blocked as newest where newest.gate = full_one.id))
                order by blocked.turn limit most
            ) as waiting
        loop
            perform from pgqueue.job where job.id = refused and job.status is null for update skip locked;
            if found and pgqueue.cancel(refused, 'limit', 'pgqueue') = 'cancelled' then
                cancelled := cancelled || refused;
            end if;
        end loop;
    end if;
    if is_gone then
        -- Removed as idle just now.
        insert into pgqueue.note (node_id, kind)
        select given.id, 'gate' from unnest(attend_gates.gates) as given (id)
        where not exists (select from pgqueue.gate where gate.id = given.id)
          and exists (select from pgqueue.blocked where blocked.gate = given.id);
    end if;
end
$$;

-- See 0028. In use is what was counted, with what was given back and not attended to.
create or replace function pgqueue.sweep_gates(after uuid, most integer) returns uuid
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    looked uuid[] := array(
        select gate.id from pgqueue.gate where gate.id > sweep_gates.after order by gate.id limit most);
    leaked uuid[];
    held uuid[];
begin
    leaked := array(
        select distinct gate_pass.job_id from pgqueue.gate_pass
        where gate_pass.gate = any(looked)
          and not exists (select from pgqueue.ready where ready.job_id = gate_pass.job_id)
          and not exists (select from pgqueue.running where running.job_id = gate_pass.job_id)
          and not exists (select from pgqueue.blocked where blocked.job_id = gate_pass.job_id and blocked.gate is not null));
    if leaked <> '{}' then
        perform pgqueue.give_back(leaked);
    end if;
    insert into pgqueue.note (node_id, kind)
    select waiting.id, 'gate' from unnest(looked) as waiting (id)
    where exists (select from pgqueue.blocked where blocked.gate = waiting.id);
    held := array(select gate.id from pgqueue.gate where gate.id = any(looked) order by gate.id for update skip locked);
    -- From here on a new snapshot, in which nobody else changes what these gates have.
    with pending as materialized (
        select note.node_id as gate, sum(note.released) as released
        from pgqueue.note where note.kind = 'gate' and note.released > 0 group by note.node_id
    ),
    newest as materialized (
        select state.*, (select count(*) from pgqueue.gate_pass where gate_pass.gate = state.gate)
                        + coalesce((select pending.released from pending where pending.gate = state.gate), 0) as counted
        from unnest(held) as gate (id)
        cross join lateral (
            select * from pgqueue.gate_state where gate_state.gate = gate.id order by gate_state.number desc limit 1
        ) as state
    ),
    fresh as (
        insert into pgqueue.gate_state (gate, number, in_use, tokens, at, closed, let, lanes, lows, look)
        select gate, number % 4611686018427387904 + 1, least(counted, 2147483647), tokens, at, closed, let, lanes, lows, look
        from newest where counted <> in_use
    )
    delete from pgqueue.gate_state
    using newest
    where gate_state.gate = newest.gate and gate_state.gate = any(held)
      and (gate_state.number <> newest.number or newest.counted <> newest.in_use);
    -- Who waits for its row meanwhile finds it gone, and notes it anew if jobs have come to it. One whose rate is not
    -- full again would let more through as a new one.
    with idle as (
        delete from pgqueue.gate
        where gate.id = any(held) and gate.made_at < now() - interval '1 day'
          and not exists (select from pgqueue.gate_pass where gate_pass.gate = gate.id)
          and not exists (select from pgqueue.blocked where blocked.gate = gate.id)
          and not exists (
              select from pgqueue.gate_state as state
              left join pgqueue.limit_rule as rule on rule.name = gate.rule and rule.kind = 'rate'
              where state.gate = gate.id
                and (state.in_use > 0
                     or state.tokens + coalesce(rule.rate, 1e6) * (
                         extract(epoch from now())::double precision - extract(epoch from state.at)::double precision
                         - state.closed) < coalesce(rule.burst, 1)))
        returning id
    )
    delete from pgqueue.gate_state where gate_state.gate = any(array(select id from idle));
    return looked[most];
end
$$;

-- Who changes the lane of a job that waits says where it waits now. Who attends to what has ended attends to gates, with
-- what their notes say, and not before their time.
do $$
declare
    change record;
    present text;
    definition text;
begin
    for change in
        select * from (values
            ('reprioritise', E'    update pgqueue.job set lane = pgqueue.lane_like(lane, reprioritise.priority) where job.id = reprioritise.id;\n',
             E'    update pgqueue.job set lane = pgqueue.lane_like(lane, reprioritise.priority) where job.id = reprioritise.id;\n'
             '    insert into pgqueue.note (node_id, kind, lane, low)\n'
             '    select blocked.gate, ''gate'', blocked.lane, blocked.turn from pgqueue.blocked\n'
             '    where blocked.job_id = reprioritise.id and blocked.gate is not null;\n'),
            ('replace_jobs', E'        where blocked.job_id = call.job_id and not pgqueue.has_started(call.job_id);\n        if not found then\n',
             E'        where blocked.job_id = call.job_id and not pgqueue.has_started(call.job_id);\n'
             '        if found then\n'
             '            insert into pgqueue.note (node_id, kind, lane, low)\n'
             '            select blocked.gate, ''gate'', blocked.lane, blocked.turn from pgqueue.blocked\n'
             '            where blocked.job_id = call.job_id and blocked.gate is not null;\n'
             '        else\n'),
            ('attend', E'OUT cancelled uuid[])', E'OUT cancelled uuid[], OUT later bigint[], OUT due double precision[])'),
            -- By key, always: the index is full of notes that are gone.
            ('attend', E'begin\n    select array_agg(taking.id)',
             E'begin\n'
             '    if notes is null then\n'
             '        -- A time that is too far away is that of a clock that was set back.\n'
             '        notes := array(\n'
             '            select note.id from pgqueue.note\n'
             '            where note.due_at is null or note.due_at not between now() and now() + interval ''61 seconds''\n'
             '            order by note.id limit most);\n'
             '    end if;\n'
             '    select array_agg(taking.id)'),
            ('attend', E'        where notes is null or note.id = any(notes)\n', E'        where note.id = any(notes)\n'),
            ('attend', E'pgqueue.attend_gates(gates, 500);\n', E'pgqueue.attend_gates(gates, mine, 500);\n'),
            ('attend', E'        lanes := lanes || let_through.lanes;\n',
             E'        lanes := lanes || let_through.lanes;\n'
             '        later := let_through.later;\n'
             '        due := let_through.due;\n')
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
    drop function pgqueue.attend(bigint[], integer);
    execute definition;
end
$$;
