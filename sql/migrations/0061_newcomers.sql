-- 0061 newcomers: a job that comes alone to a limit or a group where nobody waits is let through by small statements.
-- works with: 1
-- Workers may keep running: what is done stays the same.

-- Attend to `note` if it tells of one job that came to a gate of the plainest kind (so many slots, what does not fit
-- waits, or a line) that has no other gate, and whose lane is not paused: where nobody else waits it passes, or waits as
-- the first one if no slot is free; where somebody waits and none is free, nothing is to be done. Each statement finds
-- its rows by a key: those of attend_simple_gates and attend_lines, which do the same for any number of gates and any
-- number of jobs, take several times as long to start. Returns whether it was that, and lanes with a new ready job; if it
-- was not, nothing has changed.
create function pgqueue.attend_newcomer(note bigint, out is_served boolean, out lanes integer[])
returns record language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    told record;
    rule_name text;
    gate_key text;
    is_new boolean;
    is_line boolean;
    rule record;
    ids uuid[];                 -- null: none is to pass
    moved record;
begin
    is_served := false;
    lanes := '{}';
    select taken.node_id as gate, taken.lane, taken.low into told
    from pgqueue.note as taken
    where taken.id = attend_newcomer.note and taken.kind = 'gate' and taken.lane is not null and taken.released is null
      and taken.closed_until is null and taken.wanted is null
    for update skip locked;
    if not found then
        return;
    end if;
    -- As hold_gates does. From here on a new snapshot: passes and states are written under that lock alone.
    select gate.rule into rule_name from pgqueue.gate where gate.id = told.gate for update;
    is_new := not found;
    if (select lane.paused from pgqueue.lane where lane.id = told.lane) is not false then
        return;
    end if;
    if is_new then
        select blocked.job_id into moved from pgqueue.blocked
        where blocked.gate = told.gate and blocked.lane = told.lane and blocked.turn >= told.low and blocked.single
        order by blocked.turn limit 1;
        select job.gates[1], job.gates[2] into rule_name, gate_key from pgqueue.job where job.id = moved.job_id;
        if (pgqueue.key_id(rule_name, gate_key) = told.gate) is not true then
            return;
        end if;
    end if;
    is_line := starts_with(rule_name, 'order/');
    if is_line then
        if exists (select from pgqueue.stopped where stopped.gate = told.gate) then
            return;
        end if;
        if not exists (select from pgqueue.gate_pass where gate_pass.gate = told.gate) then
            ids := array(
                select blocked.job_id from pgqueue.blocked
                where blocked.gate = told.gate order by blocked.lane, blocked.turn limit 2);
        end if;
    else
        select limit_rule.slots, state.number, coalesce(state.in_use, 0) as in_use, state.lanes, state.lows into rule
        from pgqueue.limit_rule
        left join lateral (
            select gate_state.* from pgqueue.gate_state
            where gate_state.gate = told.gate order by gate_state.number desc limit 1
        ) as state on true
        where limit_rule.name = rule_name and limit_rule.kind = 'slots' and limit_rule.slots is not null
          and coalesce(limit_rule.when_full, 'wait') = 'wait'
          and state.look is null and (state.number is null) = is_new
          -- Behind others it changes nothing while these have to wait.
          and (coalesce(state.lanes, '{}') = '{}'
               or state.lanes = array[told.lane] and state.lows[1] <= told.low and state.in_use >= limit_rule.slots);
        if not found then
            return;
        end if;
        if rule.in_use < rule.slots then
            ids := array(
                select blocked.job_id from pgqueue.blocked
                where blocked.gate = told.gate and blocked.lane = told.lane and blocked.turn >= told.low
                order by blocked.turn limit 2);
        end if;
    end if;
    if ids is not null then
        -- Another one waits, or whoever cancels this one has it: for the others to see to.
        perform from pgqueue.blocked
        where blocked.job_id = ids[1] and blocked.gate = told.gate and blocked.lane = told.lane and blocked.single
          and cardinality(ids) = 1
        for update skip locked;
        if not found then
            return;
        end if;
    end if;
    if is_new then
        insert into pgqueue.gate (id, rule, key) values (told.gate, rule_name, gate_key) on conflict do nothing;
        if not found then
            return;
        end if;
    end if;
    if ids is not null then
        insert into pgqueue.gate_pass (gate, job_id, kept)
        values (told.gate, ids[1], case when is_line then true end)
        on conflict do nothing;
        delete from pgqueue.blocked where blocked.job_id = ids[1]
        returning blocked.job_id, blocked.lane, blocked.position, blocked.attempt, blocked.losses into moved;
        insert into pgqueue.ready (job_id, lane, position, attempt, losses)
        values (moved.job_id, moved.lane, coalesce(moved.position, nextval('pgqueue.position')), moved.attempt, moved.losses)
        on conflict do nothing;
        lanes := array[moved.lane];
    end if;
    if not is_line then
        -- Not one condition: of a line there is no rule to look at.
        if ids is not null or rule.lanes is distinct from array[told.lane] then
            insert into pgqueue.gate_state (gate, number, in_use, tokens, at, let, lanes, lows)
            values (
                told.gate, coalesce(rule.number % 4611686018427387904, 0) + 1,
                rule.in_use + coalesce(cardinality(ids), 0), 0, clock_timestamp(), '{}',
                case when ids is null then array[told.lane] else '{}' end,
                case when ids is null then array[told.low] else '{}' end);
            delete from pgqueue.gate_state where gate_state.gate = told.gate and gate_state.number = rule.number;
        end if;
    end if;
    delete from pgqueue.note as taken where taken.id = attend_newcomer.note;
    is_served := true;
end
$$;

-- See 0017. A single note is tried as a newcomer's first.
create or replace function pgqueue.attend(
    notes bigint[], most integer, out taken integer, out more bigint[], out lanes integer[], out cancelled uuid[],
    out later bigint[], out due float8[]
) returns record language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    mine bigint[];
    nodes uuid[];
    written uuid[];
    doomed uuid[];
    parents uuid[];
    orphans uuid[];
    gone uuid[] := '{}';
    fired uuid[];
    spoilt uuid[];
    ended uuid[];
    failing uuid[];
    gates uuid[];
    lines uuid[];
    rules text[];
    hold record;
    let_through record;
    newcomer record;
begin
    if notes is null then
        -- A time that is too far away is that of a clock that was set back.
        notes := array(
            select note.id from pgqueue.note
            where note.due_at is null or note.due_at not between now() and now() + interval '61 seconds'
            order by note.id limit most);
    end if;
    if cardinality(notes) = 1 then
        select * into newcomer from pgqueue.attend_newcomer(notes[1]);
        if newcomer.is_served then
            taken := 1;
            lanes := newcomer.lanes;
            cancelled := '{}';
            return;
        end if;
    end if;
    select array_agg(taking.id), array_agg(distinct taking.node_id) filter (where taking.kind = 'ended'),
           array_agg(distinct taking.node_id) filter (where taking.kind = 'written'),
           array_agg(distinct taking.node_id) filter (where taking.kind = 'doomed'),
           array_agg(distinct taking.node_id) filter (where taking.kind = 'parent'),
           array_agg(distinct taking.node_id) filter (where taking.kind = 'orphan'),
           array_agg(distinct taking.node_id) filter (where taking.kind = 'gate')
    into mine, nodes, written, doomed, parents, orphans, gates
    from (
        select note.id, note.node_id, note.kind from pgqueue.note
        where note.id = any(notes)
        order by note.id limit most for update skip locked
    ) as taking;
    taken := coalesce(cardinality(mine), 0);
    lanes := '{}';
    cancelled := '{}';
    if taken = 0 then
        return;
    end if;
    if nodes is not null or written is not null or doomed is not null then
        perform pgqueue.hold_workflows(coalesce(nodes, '{}') || written || doomed);
    end if;
    -- From here on a new snapshot: what was committed while this waited is seen.
    if written is not null then
        gone := pgqueue.register(written);
    end if;
    if nodes is not null then
        with over as materialized (
            select node.id,
                   case when waits.id is not null
                        then (case waits.state when 'fired' then 'succeeded' when 'failed' then 'failed' end)::pgqueue.job_status
                        when stands.id is null then 'cancelled'   -- removed by hand
                        else stands.status end as outcome         -- null: live again
            from unnest(nodes) as node (id)
            -- The lists inside: as a condition on the outer join they would read each table whole.
            left join (select job.id, job.status from pgqueue.job where job.id = any(nodes)) as stands on stands.id = node.id
            left join (
                select barrier.id, barrier.state from pgqueue.barrier where barrier.id = any(nodes) and barrier.is_join
            ) as waits on waits.id = node.id
        ),
        counted as (
            update pgqueue.edge set outcome = over.outcome
            from over
            where edge.upstream = over.id and edge.upstream = any(nodes) and edge.outcome is null and over.outcome is not null
            returning edge.downstream, edge.direct, over.outcome
        ),
        behind as materialized (
            select downstream as id, count(*)::integer as ended, (count(*) filter (where outcome <> 'succeeded'))::integer as spoilt
            from counted where not direct group by downstream
        ),
        before as materialized (
            select barrier.* from pgqueue.barrier where barrier.id = any(array(select id from behind))
        ),
        lowered as (
            update pgqueue.barrier
            set open = before.open - behind.ended, failed = before.failed + behind.spoilt,
                state = coalesce(before.state, pgqueue.decide(
                    before.needs, before.runs_anyway, before.fail_fast, before.total, before.open - behind.ended,
                    before.failed + behind.spoilt)),
                ended_at = case when before.state is null and pgqueue.decide(
                    before.needs, before.runs_anyway, before.fail_fast, before.total, before.open - behind.ended,
                    before.failed + behind.spoilt) is not null then clock_timestamp() else before.ended_at end
            from behind join before on before.id = behind.id
            where barrier.id = behind.id and barrier.id = any(array(select id from behind))
            returning barrier.id, barrier.is_join, barrier.fail_fast, barrier.state, before.state as was
        )
        select array_agg(id) filter (where state = 'fired' and not is_join),
               array_agg(id) filter (where state = 'failed' and not is_join),
               array_agg(id) filter (where is_join),
               array_agg(id) filter (where state = 'failed' and fail_fast)
        into fired, spoilt, ended, failing
        from lowered
        where was is null and state is not null;
        fired := fired || array(
            select edge.downstream from pgqueue.edge
            where edge.upstream = any(nodes) and edge.direct and edge.outcome = 'succeeded');
        spoilt := spoilt || array(
            select edge.downstream from pgqueue.edge
            where edge.upstream = any(nodes) and edge.direct and edge.outcome is not null and edge.outcome <> 'succeeded');
        if fired <> '{}' then
            lanes := pgqueue.to_ready(fired);
            with fresh as (
                insert into pgqueue.note (node_id, kind, lane, low)
                select blocked.gate, 'gate', blocked.lane, min(blocked.turn) from pgqueue.blocked
                where blocked.job_id = any(fired) and blocked.gate is not null group by blocked.gate, blocked.lane
                returning id, node_id
            )
            select mine || array_agg(fresh.id), gates || array_agg(fresh.node_id) into mine, gates from fresh;
        end if;
        if spoilt <> '{}' then
            cancelled := pgqueue.spoil(spoilt);
        end if;
        lanes := lanes || pgqueue.call_back(nodes);
    end if;
    if doomed is not null and pgqueue.cancel_before(doomed, 500) then
        failing := failing || doomed;
    end if;
    ended := coalesce(ended, '{}') || cancelled || gone;
    if ended <> '{}' or failing is not null then
    with fresh as (
        insert into pgqueue.note (node_id, kind)
        select node.id, 'ended'
        from (
            select edge.upstream as id from pgqueue.edge where edge.upstream = any(ended)
            union
            select callback.node_id from pgqueue.callback where callback.node_id = any(ended)
        ) as node
        union all
        select node.id, 'doomed' from unnest(failing) as node (id)
        returning id
    )
    select array_agg(id) into more from fresh;
    end if;
    if parents is not null or orphans is not null then
        more := more || pgqueue.abandon(parents, orphans);
    end if;
    if gates <> '{}' then
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
    delete from pgqueue.note where note.id = any(mine);
end
$$;
