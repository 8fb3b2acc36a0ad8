-- 0039 refill: windows of fair queues let as much through as workers have free slots.
-- works with: 1
-- Workers may keep running: they do not say how many slots are free.

alter table pgqueue.note add column wanted integer;   -- how many jobs of a window workers could start now; null: not known

-- Let jobs through up to `most` windows that have room for jobs that wait in `lanes`, from `after` on, and then from the
-- first one on: what they had let through was claimed. `wanted`: the free slots of the worker that asks, shared among
-- the keys that wait by their weights. A window lets so many through, if that is more than it has: they start at once, so
-- nobody waits behind them. One that somebody attends to just now is passed over. Returns how many windows had room,
-- lanes with new ready jobs, the notes that follow, and jobs that were cancelled.
drop function pgqueue.refill(integer[], uuid, integer);
create function pgqueue.refill(
    lanes integer[], after uuid, most integer, wanted integer default 0,
    out windows integer, out ready integer[], out more bigint[], out cancelled uuid[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    notes bigint[];
    gates uuid[];
    let_through record;
begin
    ready := '{}';
    cancelled := '{}';
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
    sized as materialized (
        select candidate.gate, candidate.lane, gate.rule, given.weight,
               ceil(least(greatest(refill.wanted, 0), 10000) * given.weight / sum(given.weight) over ())::integer as wanted
        from candidate
        join (select gate.id, gate.rule from pgqueue.gate where gate.id = any(array(select gate from candidate))) as gate
            on gate.id = candidate.gate
        cross join lateral (
            select coalesce((select present.weight from pgqueue.window_weight as present where present.gate = candidate.gate), 1)
                   as weight
        ) as given
    ),
    with_room as (
        select sized.gate, max(sized.wanted) as wanted
        from sized
        left join pgqueue.limit_rule as rule on rule.name = sized.rule
        cross join lateral (
            select coalesce((select gate_state.let from pgqueue.gate_state where gate_state.gate = sized.gate
                             order by gate_state.number desc limit 1), '{}') as let
        ) as state
        where rule.slots is null
           or (select count(*) from pgqueue.ready where ready.job_id = any(state.let) and ready.lane = sized.lane)
              + (select count(*) from pgqueue.blocked
                 where blocked.job_id = any(state.let) and blocked.gate <> sized.gate and blocked.lane = sized.lane)
              < greatest(1, round(rule.slots * sized.weight), sized.wanted)
        group by sized.gate
    ),
    -- Removed as idle, while what had waited was removed by hand.
    gone as (
        delete from pgqueue.window_lane
        where window_lane.lane = any(refill.lanes) and window_lane.gate = any(array(
            select candidate.gate from candidate
            where (select true from pgqueue.gate where gate.id = candidate.gate) is null
              and not exists (select from pgqueue.blocked where blocked.gate = candidate.gate)))
    ),
    free as (
        select gate.id from pgqueue.gate
        where gate.id = any(array(select with_room.gate from with_room)) order by gate.id for update skip locked
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind, released, wanted)
        select with_room.gate, 'gate', 0, with_room.wanted
        from with_room where with_room.gate in (select free.id from free)
        returning id, node_id
    )
    select (select count(*) from with_room), array_agg(id), array_agg(node_id) into windows, notes, gates from fresh;
    if notes is not null then
        select * into let_through from pgqueue.attend_gates(gates, notes, 500);
        ready := let_through.lanes;
        more := let_through.more;
        cancelled := let_through.cancelled;
        delete from pgqueue.note where note.id = any(notes);
    end if;
end
$$;

do $$
declare
    change record;
    definition text := pg_get_functiondef('pgqueue.attend_gates'::regproc);
begin
    for change in
        select * from (values
            (E' filter (where heard.lane is not null) as lows\n',
             E' filter (where heard.lane is not null) as lows,\n               max(heard.wanted) as wanted\n'),
            (E'note.low, note.closed_until\n', E'note.low, note.closed_until, note.wanted\n'),
            (E'select given.id, null, null, null, null from', E'select given.id, null, null, null, null, null from'),
            -- Where no other key waits, as many as have just ended: the slots that they had are free, and a lone key is as fast
            -- as a limit lets it be.
            (E'then least(1e6, greatest(1, round(rule.slots',
             E'then least(1e6, greatest(1, told.wanted,\n'
             '                   case when not exists (\n'
             '                       select from pgqueue.window_lane as other\n'
             '                       where other.lane = any(state.lanes) and other.gate <> gate.id) then told.released end,\n'
             '                   round(rule.slots')
        ) as given (was, becomes)
    loop
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.attend_gates is not as the migrations before this left it: %', change.was;
        end if;
        definition := replace(definition, change.was, change.becomes);
    end loop;
    execute definition;
end
$$;
