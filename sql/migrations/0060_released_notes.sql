-- 0060 released notes: the sweep of gates finds what was given back of each by an index, however many notes there are.
-- works with: 1
-- Workers may keep running.

-- Notes of other kinds are not in it, and do not pay for it.
create index note_released on pgqueue.note (node_id) where released > 0;

-- See 0028. In use is what was counted, with what was given back and not attended to: read of these gates alone.
create or replace function pgqueue.sweep_gates(after uuid, most integer) returns uuid
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    looked uuid[] := array(
        select gate.id from pgqueue.gate where gate.id > sweep_gates.after order by gate.id limit most);
    leaked uuid[];
    held uuid[];
begin
    with passed as materialized (
        select distinct gate_pass.job_id from pgqueue.gate_pass
        where gate_pass.gate = any(looked)
          and (gate_pass.kept is null
               or (select job.status is null from pgqueue.job where job.id = gate_pass.job_id) is not true)
    ),
    asked as materialized (select array(select passed.job_id from passed) as ids),
    lost as (
        select passed.job_id from passed
        except
        (select ready.job_id from pgqueue.ready where ready.job_id = any((select asked.ids from asked)::uuid[])
         union all
         select running.job_id from pgqueue.running where running.job_id = any((select asked.ids from asked)::uuid[])
         union all
         select blocked.job_id from pgqueue.blocked
         where blocked.job_id = any((select asked.ids from asked)::uuid[]) and blocked.gate is not null)
    )
    select array(select lost.job_id from lost) into leaked;
    if leaked <> '{}' then
        perform pgqueue.give_back(leaked);
        perform pgqueue.end_lines(leaked);
    end if;
    -- What was deleted by hand stops nothing.
    delete from pgqueue.stopped
    where stopped.gate = any(looked) and (select job.id from pgqueue.job where job.id = stopped.job_id) is null;
    insert into pgqueue.note (node_id, kind)
    select waiting.id, 'gate' from unnest(looked) as waiting (id)
    where (select true from pgqueue.blocked where blocked.gate = waiting.id limit 1);
    held := array(select gate.id from pgqueue.gate where gate.id = any(looked) order by gate.id for update skip locked);
    -- From here on a new snapshot, in which nobody else changes what these gates have.
    with newest as materialized (
        select state.*,
               (select count(*) from pgqueue.gate_pass where gate_pass.gate = state.gate) + coalesce(given_back.jobs, 0) as counted
        from unnest(held) as gate (id)
        cross join lateral (
            select * from pgqueue.gate_state where gate_state.gate = gate.id order by gate_state.number desc limit 1
        ) as state
        left join (
            select note.node_id as gate, sum(note.released) as jobs from pgqueue.note
            where note.node_id = any(held) and note.kind = 'gate' and note.released > 0
            group by note.node_id
        ) as given_back on given_back.gate = gate.id
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
          and (select true from pgqueue.gate_pass where gate_pass.gate = gate.id limit 1) is null
          and (select true from pgqueue.blocked where blocked.gate = gate.id limit 1) is null
          and (
              select true from pgqueue.gate_state as state
              left join pgqueue.limit_rule as rule on rule.name = gate.rule and rule.kind = 'rate'
              where state.gate = gate.id
                and (state.in_use > 0
                     or state.tokens + coalesce(rule.rate, 1e6) * (
                         extract(epoch from now())::double precision - extract(epoch from state.at)::double precision
                         - state.closed) < coalesce(rule.burst, 1))
              limit 1) is null
        returning id
    )
    delete from pgqueue.gate_state where gate_state.gate = any(array(select id from idle));
    return looked[most];
end
$$;
