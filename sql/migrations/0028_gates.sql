-- 0028 gates: jobs that wait until a limit lets them through.
-- works with: 1
-- Workers may keep running: they know no limits. What they promote or retry meanwhile is let through without a slot.

alter table pgqueue.job add column gates text[];   -- in pairs: the name of a limit, and the key in it; null: none
alter table pgqueue.scheduled add column gated boolean;   -- null: its job passes no gate
alter table pgqueue.blocked
    add column gated boolean,
    add column gate uuid,                         -- it waits behind this; null: not for a gate
    add column turn bigint;                       -- its place behind its gate
-- By lane: what waits in a paused queue is not looked at.
create index blocked_gate on pgqueue.blocked (gate, lane, turn) where gate is not null;
create index blocked_gated on pgqueue.blocked (job_id) where gated;

-- What is allowed of each key of a limit. Code declares it, operators edit it: what they edited stays.
create table pgqueue.limit_rule (
    name       text primary key check (length(name) between 1 and 300),
    slots      integer check (slots > 0),         -- jobs let through that have not ended; null: any number
    when_full  text check (when_full in ('wait', 'drop', 'replace')),  -- null: no code has declared it yet; wait
    edited_at  timestamptz,                       -- by an operator; null: as it was declared
    actor      text,
    changed_at timestamptz not null default now()
);

-- One key of a limit. Whoever lets jobs through holds its row. `id` is a digest of rule and key: see key_id.
create table pgqueue.gate (
    id      uuid primary key,
    rule    text not null,
    key     text not null,
    made_at timestamptz not null default now()
);
create index gate_rule on pgqueue.gate (rule, id);

-- What a job holds of a gate, until it ends, waits to be retried, or waits for something else. Written under the lock
-- of the gate alone, and counted there: so no counter can differ from it.
create table pgqueue.gate_pass (
    gate   uuid not null,
    job_id uuid not null,
    primary key (gate, job_id)
);
create index gate_pass_job_id on pgqueue.gate_pass (job_id);

alter table pgqueue.note drop constraint note_kind_check;
alter table pgqueue.note add constraint note_kind_check check (kind in ('ended', 'written', 'doomed', 'parent', 'orphan', 'gate'));

-- The first gate of a job, in their order, of which it holds nothing; null: it has passed all.
create function pgqueue.next_gate(job uuid, gates text[]) returns uuid
language plpgsql stable set search_path to pg_catalog, pg_temp as $$
declare
    found_id uuid;
begin
    for number in 1 .. coalesce(cardinality(next_gate.gates), 0) / 2 loop
        found_id := pgqueue.key_id(next_gate.gates[2 * number - 1], next_gate.gates[2 * number]);
        if not exists (select from pgqueue.gate_pass where gate_pass.gate = found_id and gate_pass.job_id = next_gate.job) then
            return found_id;
        end if;
    end loop;
    return null;
end
$$;

-- Send those of `ids` that have gates to them, wherever they have been put: what is ready without having passed all
-- waits behind the first that is left. Nobody else has seen it ready: it was put there by this transaction. What is
-- scheduled or blocked is marked, and comes here when it goes on. `places`: for who calls it in a statement, which has
-- to have written those first. Returns the notes that it wrote.
create function pgqueue.gate_in(ids uuid[], places bigint default null) returns bigint[]
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
        returning gate
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind) select distinct gate, 'gate' from waiting returning id
    )
    select array_agg(id) into notes from fresh;
    update pgqueue.scheduled set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = scheduled.job_id) > 0;
    update pgqueue.blocked set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = blocked.job_id) > 0;
    return notes;
end
$$;

-- Give back what `ids` hold: they have ended, or wait for a time or for something else. Twice is once. Returns the
-- notes that it wrote.
create function pgqueue.give_back(ids uuid[], places bigint default null) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    notes bigint[];
begin
    with freed as (
        delete from pgqueue.gate_pass where job_id = any(ids) returning gate
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind) select distinct gate, 'gate' from freed returning id
    )
    select array_agg(id) into notes from fresh;
    update pgqueue.scheduled set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = scheduled.job_id) > 0;
    update pgqueue.blocked set gated = true where job_id = any(ids) and gated is null
        and (select job.hooks & 4 from pgqueue.job where job.id = blocked.job_id) > 0;
    return notes;
end
$$;

-- What is wrong with the gates of a call, a JSON list of pairs; null: nothing.
create function pgqueue.flaw_of_gates(gates json) returns text
language sql stable set search_path to pg_catalog, pg_temp as $$
    select case
        when json_typeof(gates) <> 'array' then 'its limits are not a list'
        when json_array_length(gates) > 16 then format('it has %s limits: give at most 16', json_array_length(gates))
        when exists (
            select from json_array_elements(gates) as pair
            where case when json_typeof(pair) = 'array' then
                json_array_length(pair) <> 2
                or coalesce(length(pair ->> 0) not between 1 and 300 or length(pair ->> 1) > 512, true)
                else true end
        ) then 'each of its limits must have a name of 1 to 300 characters and a key of at most 512'
    end
$$;

-- Give jobs that were just made their gates: `documents`, a JSON list for each. Returns the notes that it wrote.
create function pgqueue.limit_jobs(ids uuid[], documents json) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    flaw text;
begin
    select format('job %s: %s', given.id, pgqueue.flaw_of_gates(given.gates)) into flaw
    from rows from (unnest(ids), json_array_elements(documents)) as given (id, gates)
    where pgqueue.flaw_of_gates(given.gates) is not null limit 1;
    if flaw is not null then
        raise exception 'pgqueue.limit_jobs: %', flaw using errcode = 'invalid_parameter_value';
    end if;
    update pgqueue.job
    set hooks = coalesce(job.hooks, 0) | 4,
        gates = array(
            select pair.part
            from json_array_elements(given.gates) with ordinality as gate (pair, number)
            cross join lateral (values (1, gate.pair ->> 0), (2, gate.pair ->> 1)) as pair (side, part)
            order by gate.number, pair.side)
    from rows from (unnest(ids), json_array_elements(documents)) as given (id, gates)
    where job.id = given.id and job.id = any(ids) and job.status is null and json_array_length(given.gates) > 0;
    return pgqueue.gate_in(ids);
end
$$;

-- Declare a limit, as code does. One that was declared stays as it is, and so do slots that an operator has set: who may
-- only enqueue changes none. True: it is new.
create function pgqueue.declare_limit(name text, slots integer, when_full text) returns boolean
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
begin
    perform pgqueue.check_text('pgqueue.declare_limit: name', declare_limit.name, 300, 1);
    if coalesce(declare_limit.slots < 1, true) or declare_limit.when_full not in ('wait', 'drop', 'replace') then
        raise exception 'pgqueue.declare_limit: limit % needs at least 1 slot, and wait, drop or replace',
            declare_limit.name using errcode = 'invalid_parameter_value';
    end if;
    -- Every process declares its limits: that locks no row.
    if exists (select from pgqueue.limit_rule as rule where rule.name = declare_limit.name and rule.when_full is not null) then
        return false;
    end if;
    insert into pgqueue.limit_rule as rule (name, slots, when_full)
    values (declare_limit.name, declare_limit.slots, declare_limit.when_full)
    on conflict on constraint limit_rule_pkey do update set when_full = excluded.when_full where rule.when_full is null;
    if not found then
        return false;
    end if;
    insert into pgqueue.note (node_id, kind) select gate.id, 'gate' from pgqueue.gate where gate.rule = declare_limit.name;
    return true;
end
$$;

-- Change a limit while jobs wait for it. Null slots: it lets all through.
create function pgqueue.set_limit(name text, slots integer, actor text default null) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    perform pgqueue.check_text('pgqueue.set_limit: actor', set_limit.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.set_limit: name', set_limit.name, 300, 1);
    if set_limit.slots < 1 then
        raise exception 'pgqueue.set_limit: limit % must have at least 1 slot, got %', set_limit.name, set_limit.slots
            using errcode = 'invalid_parameter_value';
    end if;
    insert into pgqueue.limit_rule as rule (name, slots, edited_at, actor)
    values (set_limit.name, set_limit.slots, now(), coalesce(set_limit.actor, session_user))
    on conflict on constraint limit_rule_pkey do update
    set slots = excluded.slots, edited_at = excluded.edited_at, actor = excluded.actor, changed_at = now();
    insert into pgqueue.note (node_id, kind) select gate.id, 'gate' from pgqueue.gate where gate.rule = set_limit.name;
end
$$;

-- Let jobs through `gates`, as far as there is room: each to its next gate, or to be ready. What a full limit does not
-- let wait is cancelled. Members of paused workflows leave the gate, hold nothing, and come again when these go on.
-- Waits for nobody who holds a job. Returns the notes that follow, lanes with new ready jobs, and the jobs that were
-- cancelled.
create function pgqueue.attend_gates(gates uuid[], most integer, out more bigint[], out lanes integer[], out cancelled uuid[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    nexts uuid[];
    passing json;
    refused uuid;
    halted uuid[];
begin
    cancelled := '{}';
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
    on conflict do nothing;
    perform from pgqueue.gate where gate.id = any(attend_gates.gates) order by gate.id for update;
    -- From here on a new snapshot: passes are written under that lock alone.
    with room as materialized (
        select gate.id, rule.when_full, least(most, case when rule.slots is null then most else rule.slots - (
                   select count(*) from (
                       select from pgqueue.gate_pass where gate_pass.gate = gate.id limit rule.slots) as held) end) as free,
               -- What would not be claimed must not hold what others wait for.
               array(
                   with recursive found (lane) as (
                       (select blocked.lane from pgqueue.blocked where blocked.gate = gate.id order by blocked.lane limit 1)
                       union all
                       select (select blocked.lane from pgqueue.blocked
                               where blocked.gate = gate.id and blocked.lane > found.lane order by blocked.lane limit 1)
                       from found where found.lane is not null
                   )
                   select found.lane from found
                   where found.lane is not null
                     and (select lane.paused from pgqueue.lane where lane.id = found.lane) is not true
               ) as lanes
        from (select * from pgqueue.gate where gate.id = any(attend_gates.gates)) as gate
        left join pgqueue.limit_rule as rule on rule.name = gate.rule
    ),
    chosen as materialized (
        select waiting.job_id, waiting.turn, room.id as gate
        from room
        cross join lateral (
            select first.job_id, first.turn
            from unnest(room.lanes) as of_room (lane)
            cross join lateral (
                select blocked.job_id, blocked.turn
                from pgqueue.blocked
                where blocked.gate = room.id and blocked.lane = of_room.lane
                order by blocked.turn
                limit greatest(room.free, 0)
                -- Whoever cancels one has it; the note that stays has it looked at again.
                for update skip locked
            ) as first
            order by first.turn
            limit greatest(room.free, 0)
        ) as waiting
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
        returning blocked.gate
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
    )
    select array(select distinct lane from queued), array(select distinct gate from further),
           (select json_agg(json_build_object(
               'gate', room.id, 'when_full', room.when_full, 'free', room.free, 'lanes', room.lanes,
               'let', (select count(*) from admitted where admitted.gate = room.id),
               'goes_on', (select count(*) = most from chosen where chosen.gate = room.id) or exists (
                   select from chosen where chosen.gate = room.id and chosen.job_id in (select job_id from aside))))
            from room),
           array(select job_id from aside)
    into lanes, nexts, passing, halted;
    if halted <> '{}' then
        more := pgqueue.give_back(halted);
    end if;
    -- Of what is full, what may not wait.
    for refused in
        select waiting.job_id
        from json_to_recordset(passing) as full_one (gate uuid, when_full text, free integer, let integer)
        cross join lateral (
            select blocked.job_id
            from pgqueue.blocked
            where blocked.gate = full_one.gate
              -- What has started stays.
              and blocked.attempt = 0 and blocked.losses = 0
              and (full_one.when_full = 'drop' or blocked.turn < (
                  select max(newest.turn) from pgqueue.blocked as newest where newest.gate = full_one.gate))
            order by blocked.turn limit most
        ) as waiting
        where full_one.when_full in ('drop', 'replace') and full_one.let >= full_one.free
    loop
        perform from pgqueue.job where job.id = refused and job.status is null for update skip locked;
        if found and pgqueue.cancel(refused, 'limit', 'pgqueue') = 'cancelled' then
            cancelled := cancelled || refused;
        end if;
    end loop;
    with fresh as (
        insert into pgqueue.note (node_id, kind)
        select next, 'gate' from unnest(nexts) as next
        union all
        select full_one.gate, 'gate'
        from json_to_recordset(passing) as full_one (gate uuid, goes_on boolean)
        where full_one.goes_on
        returning id
    )
    select more || array_agg(id) into more from fresh;
    -- Left in the table: looked at again by the upkeep, not at once.
    insert into pgqueue.note (node_id, kind)
    select full_one.gate, 'gate'
    from json_to_recordset(passing) as full_one (gate uuid, free integer, let integer, goes_on boolean, lanes integer[])
    where full_one.let < full_one.free and not full_one.goes_on
      and exists (
          select from unnest(full_one.lanes) as of_gate (lane)
          where exists (
              select from pgqueue.blocked where blocked.gate = full_one.gate and blocked.lane = of_gate.lane))
    union all
    -- Removed as idle just now.
    select given.id, 'gate' from unnest(attend_gates.gates) as given (id)
    where not exists (select from pgqueue.gate where gate.id = given.id)
      and exists (select from pgqueue.blocked where blocked.gate = given.id);
end
$$;

-- Look at up to `most` gates behind `after`: give back what is held by jobs that stand nowhere where it is needed, note
-- those that have jobs waiting, and remove those that nothing has used for a day. Returns the last gate looked at; null:
-- there are no more.
create function pgqueue.sweep_gates(after uuid, most integer) returns uuid
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    looked uuid[] := array(
        select gate.id from pgqueue.gate where gate.id > sweep_gates.after order by gate.id limit most);
    leaked uuid[];
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
    -- Who waits for its row meanwhile finds it gone, and notes it anew if jobs have come to it.
    delete from pgqueue.gate
    where gate.id = any(array(
              select idle.id from pgqueue.gate as idle
              where idle.id = any(looked) and idle.made_at < now() - interval '1 day' for update skip locked))
      and not exists (select from pgqueue.gate_pass where gate_pass.gate = gate.id)
      and not exists (select from pgqueue.blocked where blocked.gate = gate.id);
    return looked[most];
end
$$;

-- What moves jobs on sends those with gates to them, and what ends them gives back what they hold. Jobs without gates
-- are not looked at for it: their hooks, or the mark at their place, say so.
do $$
declare
    change record;
    present text;
    definition text;
begin
    for change in
        select * from (values
            -- The tail of all that ends jobs.
            ('settle', E'                delete from pgqueue.blocked where job_id = any(nexts) and waits_for is null returning job_id, lane, attempt, losses\n',
             E'                delete from pgqueue.blocked where job_id = any(nexts) and waits_for is null and gate is null returning job_id, lane, attempt, losses, gated\n'),
            ('settle', E'            select array_agg(distinct lane) into lanes from queued;\n',
             E'            select (select array_agg(distinct lane) from queued), (select array_agg(job_id) from moved where gated)\n'
             '            into lanes, limited;\n'
             '            if limited is not null then\n'
             '                held := pgqueue.gate_in(limited);\n'
             '            end if;\n'),
            ('settle', E'    lanes integer[];\n', E'    lanes integer[];\n    limited uuid[];\n    held bigint[];\n'),
            ('settle', E'    return json_build_object(',
             E'    if hooks & 4 > 0 then\n'
             '        held := held || pgqueue.give_back(ids);\n'
             '    end if;\n'
             '    notes := notes || held;\n'
             '    return json_build_object('),
            -- Everything that makes blocked jobs ready.
            ('to_ready', E'waits_for is null\n        returning job_id, lane, attempt, losses, delay, position\n',
             -- What waits behind a gate is on its way, and keeps its turn.
             E'waits_for is null and gate is null\n        returning job_id, lane, attempt, losses, delay, position, gated\n'),
            ('to_ready', E'    select array(select distinct lane from queued) into lanes;\n',
             E'    select array(select distinct lane from queued), (select array_agg(job_id) from moved where gated)\n'
             '    into lanes, limited;\n'
             '    if limited is not null then\n'
             '        perform pgqueue.gate_in(limited);\n'
             '    end if;\n'),
            ('to_ready', E'    lanes integer[];\n', E'    lanes integer[];\n    limited uuid[];\n'),
            ('signal', E'        insert into pgqueue.ready as queued (job_id, lane, attempt, losses, position)\n'
             '        select woken.job_id, woken.lane, woken.attempt, woken.losses, coalesce(woken.position, nextval(''pgqueue.position''))\n'
             '        from woken\n'
             '        returning queued.lane into in_lane;\n',
             E'        , queued as (\n'
             '            insert into pgqueue.ready (job_id, lane, attempt, losses, position)\n'
             '            select woken.job_id, woken.lane, woken.attempt, woken.losses, coalesce(woken.position, nextval(''pgqueue.position''))\n'
             '            from woken\n'
             '            returning lane\n'
             '        )\n'
             '        select (select lane from queued), (select gated from woken) into in_lane, is_gated;\n'
             '        if is_gated then\n'
             '            perform pgqueue.gate_in(array[signal.job]);\n'
             '        end if;\n'),
            ('signal', E'    ended_as pgqueue.job_status;\n', E'    ended_as pgqueue.job_status;\n    is_gated boolean;\n'),
            ('wake', E'    return query\n',
             E'    limited := array(select waiting.job_id from pgqueue.blocked as waiting where waiting.gated and waiting.job_id = any(due));\n'
             '    return query\n'),
            ('wake', E'    select moved.job_id, moved.lane, moved.attempt from moved;\n',
             E'    select moved.job_id, moved.lane, moved.attempt from moved;\n'
             '    if limited <> ''{}'' then\n'
             '        perform pgqueue.gate_in(limited);\n'
             '    end if;\n'),
            ('wake', E'    due uuid[];\n', E'    due uuid[];\n    limited uuid[];\n'),
            -- A job that waits gives back what it holds meanwhile.
            -- A read of its own: the planner moves a condition below a lock, and then it locks the limited ones alone.
            ('suspend', E'    perform from pgqueue.job where job.id = any(ids || nodes) order by job.id for update;\n',
             E'    perform from pgqueue.job where job.id = any(ids || nodes) order by job.id for update;\n'
             '    select array_agg(job.id) into limited from pgqueue.job where job.id = any(ids) and job.hooks & 4 > 0;\n'),
            ('suspend', E'    end loop;\nend\n',
             E'    end loop;\n'
             '    if limited is not null then\n'
             '        perform pgqueue.give_back(array(\n'
             '            select blocked.job_id from pgqueue.blocked\n'
             '            where blocked.job_id = any(limited) and blocked.job_id = any(suspended)));\n'
             '    end if;\n'
             'end\n'),
            ('suspend', E'    join_id uuid;\n', E'    join_id uuid;\n    limited uuid[];\n'),
            -- New generations.
            ('reopen', E'        select job.id, job.attempt,\n', E'        select job.id, job.attempt, job.hooks,\n'),
            ('reopen', E'    select array(select distinct lane from queued) into lanes;\n',
             E'    select array(select distinct lane from queued), (select array_agg(old.id) from old where old.hooks & 4 > 0)\n'
             '    into lanes, limited;\n'
             '    if limited is not null then\n'
             '        perform pgqueue.gate_in(limited);\n'
             '    end if;\n'),
            ('reopen', E'    lanes integer[];\n', E'    lanes integer[];\n    limited uuid[];\n'),
            ('rearm', E'            returning job.id, job.lane\n', E'            returning job.id, job.lane, job.hooks\n'),
            ('rearm', E'            insert into pgqueue.blocked (job_id, lane) select id, lane from again returning job_id\n',
             E'            insert into pgqueue.blocked (job_id, lane, gated)\n'
             '            select id, lane, case when hooks & 4 > 0 then true end from again returning job_id\n'),
            ('fork', E'tags, key, hooks)\n', E'tags, key, hooks, gates)\n'),
            ('fork', E'            nullif(source.hooks & 2, 0));\n', E'            nullif(source.hooks & 6, 0), source.gates);\n'),
            ('fork', E'    return source.lane;\n',
             E'    if source.hooks & 4 > 0 then\n'
             '        perform pgqueue.gate_in(array[new_id]);\n'
             '    end if;\n'
             '    return source.lane;\n'),
            -- By hand.
            ('transition', E'    if hooked is not null then\n',
             E'    if after in (''pending'', ''scheduled'', ''blocked'')\n'
             '       and (select job.hooks & 4 from pgqueue.job where job.id = transition.id) > 0 then\n'
             '        if after <> ''pending'' then\n'
             '            perform pgqueue.give_back(array[transition.id]);\n'
             '        end if;\n'
             '        perform pgqueue.gate_in(array[transition.id]);\n'
             '    end if;\n'
             '    if hooked is not null then\n'),
            ('replace_jobs', E'        perform from pgqueue.job where job.id = call.job_id for update;\n',
             E'        select job.hooks into hooked from pgqueue.job where job.id = call.job_id for update;\n'),
            ('replace_jobs', E'        return next call.job_id;\n',
             E'        if hooked & 4 > 0 then\n'
             '            if start_at > now() then\n'
             '                perform pgqueue.give_back(array[call.job_id]);\n'
             '            end if;\n'
             '            perform pgqueue.gate_in(array[call.job_id]);\n'
             '        end if;\n'
             '        return next call.job_id;\n'),
            ('replace_jobs', E'    place bigint;\n', E'    place bigint;\n    hooked integer;\n'),
            -- Roles that may only enqueue.
            ('submit', E'    perform pgqueue.wait_for(followers, followed);\n',
             E'    perform pgqueue.wait_for(followers, followed);\n'
             '    perform pgqueue.limit_jobs(array_agg(given.job_id order by given.job_id), json_agg(given.gates order by given.job_id))\n'
             '    from json_to_recordset(calls) as given (job_id uuid, gates json)\n'
             '    where json_typeof(given.gates) <> ''null'' and given.job_id not in (select unnest(unmade))\n'
             '    having count(*) > 0;\n'),
            ('submit_workflow', E'    return json_build_object(''notes''',
             E'    if json_typeof(workflow -> ''gates'') = ''object'' then\n'
             '        -- Those of its own jobs alone.\n'
             '        notes := notes || (\n'
             '            select pgqueue.limit_jobs(array_agg(given.key::uuid), json_agg(given.value))\n'
             '            from json_each(workflow -> ''gates'') as given\n'
             '            where given.key in (select id::text from unnest(ids) as id));\n'
             '    end if;\n'
             '    return json_build_object(''notes'''),
            ('write_workflow', E'    return json_build_object(''notes''',
             E'    if json_typeof(workflow -> ''gates'') = ''object'' then\n'
             '        -- Those of its own jobs alone.\n'
             '        notes := notes || (\n'
             '            select pgqueue.limit_jobs(array_agg(given.key::uuid), json_agg(given.value))\n'
             '            from json_each(workflow -> ''gates'') as given\n'
             '            where given.key in (select id::text from unnest(ids) as id));\n'
             '    end if;\n'
             '    return json_build_object(''notes'''),
            -- What waits for a limit is not forgotten.
            ('stands_still', E'(blocked.wake_at is not null or blocked.waits_for is not null)\n',
             E'(blocked.wake_at is not null or blocked.waits_for is not null or blocked.gate is not null)\n'),
            -- Who attends to what has ended attends to gates.
            ('attend', E'           array_agg(distinct taking.node_id) filter (where taking.kind = ''orphan'')\n',
             E'           array_agg(distinct taking.node_id) filter (where taking.kind = ''orphan''),\n'
             '           array_agg(distinct taking.node_id) filter (where taking.kind = ''gate'')\n'),
            ('attend', E'into mine, nodes, written, doomed, parents, orphans\n',
             E'into mine, nodes, written, doomed, parents, orphans, gates\n'),
            ('attend', E'            lanes := pgqueue.to_ready(fired);\n',
             E'            lanes := pgqueue.to_ready(fired);\n'
             -- Those that have gone to gates, in this transaction: not by the notes of that.
             '            gates := gates || array(\n'
             '                select distinct blocked.gate from pgqueue.blocked\n'
             '                where blocked.job_id = any(fired) and blocked.gate is not null);\n'),
            ('attend', E'    delete from pgqueue.note where note.id = any(mine);\n',
             E'    if gates <> ''{}'' then\n'
             '        select * into let_through from pgqueue.attend_gates(gates, 500);\n'
             '        more := more || let_through.more;\n'
             '        lanes := lanes || let_through.lanes;\n'
             '        cancelled := cancelled || let_through.cancelled;\n'
             '    end if;\n'
             '    delete from pgqueue.note where note.id = any(mine);\n'),
            ('attend', E'    failing uuid[];\n', E'    failing uuid[];\n    gates uuid[];\n    let_through record;\n')
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

-- What runs as the owner is not everybody's. Roles that have been granted the tables by hand keep it.
do $$
declare
    definer regprocedure;
    grantee text;
begin
    for definer in
        select oid::regprocedure from pg_proc
        where pronamespace = 'pgqueue'::regnamespace and prosecdef and proname = 'declare_limit'
    loop
        execute format('revoke execute on function %s from public', definer);
        for grantee in
            select distinct case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end
            from pg_class cross join lateral aclexplode(relacl) as acl
            where pg_class.oid = 'pgqueue.job'::regclass and acl.privilege_type = 'INSERT'
              and acl.grantee <> relowner
        loop
            execute format('grant execute on function %s to %s', definer, grantee);
        end loop;
    end loop;
end
$$;
