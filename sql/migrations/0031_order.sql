-- 0031 order: groups whose jobs run one at a time, in the order in which they were enqueued.
-- works with: 1
-- Workers may keep running: what they end, retry and redrive goes through functions that are changed here.

alter table pgqueue.job add column turn bigint;   -- its place in the order of its group, for life; null: it has none
-- A retry and a wait leave it to the job.
alter table pgqueue.gate_pass add column kept boolean;   -- of an ordered group; null: it is not
-- What becomes of the jobs behind one that has failed or expired.
alter table pgqueue.limit_rule add column on_dead text check (on_dead in ('block', 'skip', 'halt'));  -- null: a limit

-- Jobs that have failed or expired, and let none through that were enqueued later.
create table pgqueue.stopped (
    job_id     uuid primary key,
    gate       uuid not null,
    rule       text not null,
    key        text not null,
    turn       bigint not null,
    halts      boolean not null,                  -- its key stands still until an operator lets it go on
    stopped_at timestamptz not null default now()
);
create index stopped_gate on pgqueue.stopped (gate, turn);
create index stopped_rule on pgqueue.stopped (rule, key, turn);

-- Those of `gates` that are lines of ordered groups. By keys alone: there are many gates.
create function pgqueue.lines_of(gates uuid[]) returns uuid[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    known uuid[];
    lines uuid[];
begin
    select array_agg(gate.id), array_agg(gate.id) filter (where starts_with(gate.rule, 'order/')) into known, lines
    from pgqueue.gate where gate.id = any(lines_of.gates);
    if cardinality(known) = cardinality(lines_of.gates) then
        return lines;
    end if;
    -- Nobody has attended to the others before: they are lines if jobs wait there at the places that they have for life.
    with first as materialized (
        select given.id as gate, (select blocked.job_id from pgqueue.blocked where blocked.gate = given.id limit 1) as job_id
        from unnest(lines_of.gates) as given (id)
        where given.id <> all(coalesce(known, '{}'))
    ),
    new_line as materialized (
        select first.gate, job.gates
        from first
        join (select job.* from pgqueue.job where job.id = any(array(select first.job_id from first))) as job
            on job.id = first.job_id
        where job.turn is not null and pgqueue.key_id(job.gates[1], job.gates[2]) = first.gate
    ),
    made as (
        insert into pgqueue.gate (id, rule, key)
        select new_line.gate, new_line.gates[1], new_line.gates[2] from new_line order by new_line.gate
        on conflict do nothing
    )
    select lines || array_agg(new_line.gate) into lines from new_line;
    return lines;
end
$$;

-- Let the next job of each of `lines` through, to its next limit, or to be ready: the one with the lowest turn, unless one
-- is let through already, one before it has stopped the line, or its queue is paused. Members of paused workflows that
-- have not started leave their line, and come again when these go on. Waits for nobody who holds a job. Returns the notes
-- that follow, and lanes with new ready jobs.
create function pgqueue.attend_lines(lines uuid[], out more bigint[], out lanes integer[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    locked uuid[] := array(
        select gate.id from pgqueue.gate where gate.id = any(attend_lines.lines) order by gate.id for update);
    held uuid[];
    busy uuid[];
begin
    -- From here on a new snapshot: whoever was let through, and whoever has stopped a line, is seen.
    held := array(select gate_pass.gate from pgqueue.gate_pass where gate_pass.gate = any(locked));
    with first as materialized (
        select line.id as gate, next.job_id, next.turn, next.lane
        from unnest(locked) as line (id)
        cross join lateral (
            with recursive found (lane) as (
                (select blocked.lane from pgqueue.blocked where blocked.gate = line.id order by blocked.lane limit 1)
                union all
                select (select blocked.lane from pgqueue.blocked
                        where blocked.gate = line.id and blocked.lane > found.lane order by blocked.lane limit 1)
                from found where found.lane is not null
            )
            select of_lane.job_id, of_lane.turn, found.lane
            from found
            cross join lateral (
                select blocked.job_id, blocked.turn from pgqueue.blocked
                where blocked.gate = line.id and blocked.lane = found.lane order by blocked.turn limit 1
            ) as of_lane
            order by of_lane.turn limit 1
        ) as next
        where line.id <> all(held)
    ),
    head as materialized (
        select first.gate, first.job_id
        from first
        where (select lane.paused from pgqueue.lane where lane.id = first.lane) is not true
          -- Never past what stops it, however many these are.
          and (select true from pgqueue.stopped
               where stopped.gate = first.gate and (stopped.halts or stopped.turn < first.turn) limit 1) is null
    ),
    -- Whoever cancels one has it, and nobody else is let through instead of it.
    mine as materialized (
        select blocked.job_id from pgqueue.blocked
        where blocked.job_id = any(array(select head.job_id from head)) and blocked.gate = any(locked)
        for update skip locked
    ),
    chosen as materialized (
        select head.gate, head.job_id, job.gates, job.workflow_id
        from head
        join (select job.* from pgqueue.job where job.id = any(array(select mine.job_id from mine))) as job
            on job.id = head.job_id
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
                 where head.job_id not in (select job_id from way) and head.job_id not in (select job_id from aside)
                 union all
                 -- Removed as idle just now.
                 select line.id from unnest(attend_lines.lines) as line (id) where line.id <> all(locked))
    into lanes, more, busy;
    -- Left in the table: looked at again by the upkeep, not at once.
    insert into pgqueue.note (node_id, kind) select id, 'gate' from unnest(busy) as id;
end
$$;

-- Have those of `ids` that have ended, or are gone, leave their lines to the next ones, or stop them if they have failed or
-- expired. Called with what ends them: whoever lets jobs through sees both or neither. Returns the notes that it wrote.
create function pgqueue.end_lines(ids uuid[]) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    notes bigint[];
begin
    with stands as materialized (
        select job.id, job.status, job.gates, job.turn from pgqueue.job where job.id = any(ids) and job.turn is not null
    ),
    dead as (
        insert into pgqueue.stopped (job_id, gate, rule, key, turn, halts)
        select stands.id, pgqueue.key_id(stands.gates[1], stands.gates[2]), stands.gates[1], stands.gates[2], stands.turn,
               rule.on_dead is not distinct from 'halt'
        from stands
        left join pgqueue.limit_rule as rule on rule.name = stands.gates[1]
        where stands.status in ('failed', 'expired') and rule.on_dead is distinct from 'skip'
        on conflict (job_id) do update set halts = excluded.halts, stopped_at = excluded.stopped_at
    ),
    freed as (
        delete from pgqueue.gate_pass
        where gate_pass.job_id = any(ids) and gate_pass.kept
          and gate_pass.job_id <> all(array(select stands.id from stands where stands.status is null))
        returning gate_pass.gate
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind) select distinct gate, 'gate' from freed returning id
    )
    select array_agg(id) into notes from fresh;
    return notes;
end
$$;

-- Let the lines go on that `ids` stop, but for those that wait for an operator.
create function pgqueue.start_lines(ids uuid[]) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    with gone as (
        delete from pgqueue.stopped where stopped.job_id = any(ids) and not stopped.halts returning stopped.gate
    )
    insert into pgqueue.note (node_id, kind) select distinct gate, 'gate' from gone;
    if found then
        perform pg_notify('pgqueue', 'attend') where pg_notification_queue_usage() < 0.9::float8;
    end if;
end
$$;

-- Have those of `ids` that have never started give back their turn: they wait for something else, and come in again.
create function pgqueue.leave_line(ids uuid[]) returns void
language sql set search_path to pg_catalog, pg_temp as $$
    with gone as (
        delete from pgqueue.gate_pass
        where gate_pass.job_id = any(ids) and gate_pass.kept
          and not exists (
              select from pgqueue.attempt where attempt.job_id = gate_pass.job_id and attempt.started_at is not null)
          and not exists (select from pgqueue.step where step.job_id = gate_pass.job_id)
        returning gate_pass.gate
    )
    insert into pgqueue.note (node_id, kind) select distinct gate, 'gate' from gone
$$;

-- Declare an ordered group, as code does. One that was declared stays as it is. True: it is new.
create function pgqueue.declare_ordered(name text, on_dead text) returns boolean
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
begin
    perform pgqueue.check_text('pgqueue.declare_ordered: name', declare_ordered.name, 300, 7);
    if not starts_with(declare_ordered.name, 'order/')
       or coalesce(declare_ordered.on_dead not in ('block', 'skip', 'halt'), true) then
        raise exception 'pgqueue.declare_ordered: group % needs a name that begins with order/, and block, skip or halt',
            declare_ordered.name using errcode = 'invalid_parameter_value';
    end if;
    -- Every process declares its groups: that locks no row.
    if exists (select from pgqueue.limit_rule as rule where rule.name = declare_ordered.name) then
        return false;
    end if;
    insert into pgqueue.limit_rule (name, slots, when_full, on_dead)
    values (declare_ordered.name, 1, 'wait', declare_ordered.on_dead)
    on conflict on constraint limit_rule_pkey do nothing;
    return found;
end
$$;

-- Say what becomes of the jobs behind one that fails or expires from now on. Lines that stand still go on by resume_key.
create function pgqueue.set_ordered(name text, on_dead text, actor text default null) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    perform pgqueue.check_text('pgqueue.set_ordered: actor', set_ordered.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.set_ordered: name', set_ordered.name, 300, 7);
    if not starts_with(set_ordered.name, 'order/') or coalesce(set_ordered.on_dead not in ('block', 'skip', 'halt'), true) then
        raise exception 'pgqueue.set_ordered: group % needs a name that begins with order/, and block, skip or halt',
            set_ordered.name using errcode = 'invalid_parameter_value';
    end if;
    insert into pgqueue.limit_rule as rule (name, slots, when_full, on_dead, edited_at, actor)
    values (set_ordered.name, 1, 'wait', set_ordered.on_dead, now(), coalesce(set_ordered.actor, session_user))
    on conflict on constraint limit_rule_pkey do update
    set on_dead = excluded.on_dead, edited_at = excluded.edited_at, actor = excluded.actor, changed_at = now();
end
$$;

-- Let a key of an ordered group go on, whatever has stopped it: those jobs stay as they are. Returns how many they were.
create function pgqueue.resume_key(name text, key text, reason text default null, actor text default null)
returns integer
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    resumed integer;
begin
    perform pgqueue.check_text('pgqueue.resume_key: actor', resume_key.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.resume_key: reason', resume_key.reason, 1000, 0);
    with gone as (
        delete from pgqueue.stopped
        where stopped.gate = pgqueue.key_id(resume_key.name, resume_key.key)
        returning stopped.job_id, stopped.gate
    ),
    noted as (
        insert into pgqueue.action (job_id, action, attempt, reason, actor)
        select gone.job_id, 'key_resumed',
               (select coalesce(job.attempt, 0) from pgqueue.job where job.id = gone.job_id), resume_key.reason,
               coalesce(resume_key.actor, session_user)
        from gone order by gone.job_id
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind) select distinct gate, 'gate' from gone
    )
    select count(*) into resumed from gone;
    if resumed > 0 then
        perform pg_notify('pgqueue', 'attend') where pg_notification_queue_usage() < 0.9::float8;
    end if;
    return resumed;
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
            -- A job goes to its line at its own place, whenever it comes.
            ('gate_in', E'        select job.id, pgqueue.next_gate(job.id, job.gates) as gate\n',
             E'        select job.id, pgqueue.next_gate(job.id, job.gates) as gate, job.turn,\n'
             '               case when job.turn is not null then pgqueue.key_id(job.gates[1], job.gates[2]) end as line\n'),
            ('gate_in', E'               nextval(''pgqueue.position'')\n        from moved join gated',
             E'               case when gated.gate = gated.line then gated.turn else nextval(''pgqueue.position'') end\n'
             '        from moved join gated'),
            -- What it has of a line stays until it has ended.
            ('give_back', E'delete from pgqueue.gate_pass where job_id = any(ids) returning gate\n',
             E'delete from pgqueue.gate_pass where job_id = any(ids) and kept is null returning gate\n'),
            ('settle', E'        held := held || pgqueue.give_back(ids);\n',
             E'        held := held || pgqueue.give_back(ids);\n'
             '        if hooks & 32 > 0 then\n'
             '            held := held || pgqueue.end_lines(ids);\n'
             '        end if;\n'),
            ('limit_jobs', E'    update pgqueue.job\n    set hooks = coalesce(job.hooks, 0) | 4,\n',
             E'    with given as materialized (\n'
             '        select made.id, made.gates,\n'
             '               case when starts_with(made.gates -> 0 ->> 0, ''order/'') then nextval(''pgqueue.position'') end as turn\n'
             '        from rows from (unnest(ids), json_array_elements(documents)) with ordinality as made (id, gates, number)\n'
             '        order by made.number\n'
             '    )\n'
             '    update pgqueue.job\n'
             '    set hooks = coalesce(job.hooks, 0) | case when given.turn is null then 4 else 36 end,\n'
             '        turn = given.turn,\n'),
            ('limit_jobs', E'    from rows from (unnest(ids), json_array_elements(documents)) as given (id, gates)\n    where job.id',
             E'    from given\n    where job.id'),
            ('flaw_of_gates', E'length(pair ->> 1) > 512, true)\n',
             E'length(pair ->> 1) > 512, true)\n'
             -- Whoever waits for his turn holds nothing.
             '                or (starts_with(pair ->> 0, ''order/'') and pair::text <> (flaw_of_gates.gates -> 0)::text)\n'),
            ('flaw_of_gates', 'a name of 1 to 300 characters and a key of at most 512''',
             'a name of 1 to 300 characters and a key of at most 512, and only the first may be an ordered group'''),
            ('flaw_of_gates', E'json_array_length(gates) > 16', E'json_array_length(gates) > 19'),
            ('flaw_of_gates', E'give at most 16', E'give at most 19'),
            ('set_limit', E'    perform pgqueue.check_text(''pgqueue.set_limit: name'', set_limit.name, 300, 1);\n',
             E'    perform pgqueue.check_text(''pgqueue.set_limit: name'', set_limit.name, 300, 1);\n'
             '    if starts_with(set_limit.name, ''order/'') then\n'
             '        raise exception ''pgqueue.set_limit: % is an ordered group, which has one slot'', set_limit.name\n'
             '            using errcode = ''invalid_parameter_value'';\n'
             '    end if;\n'),
            ('sweep_gates', E'          and not exists (select from pgqueue.ready where',
             E'          and (gate_pass.kept is null\n'
             '               or (select job.status is null from pgqueue.job where job.id = gate_pass.job_id) is not true)\n'
             '          and not exists (select from pgqueue.ready where'),
            ('sweep_gates', E'        perform pgqueue.give_back(leaked);\n',
             E'        perform pgqueue.give_back(leaked);\n        perform pgqueue.end_lines(leaked);\n'),
            ('sweep_gates', E'    insert into pgqueue.note (node_id, kind)\n',
             E'    -- What was deleted by hand stops nothing.\n'
             '    delete from pgqueue.stopped\n'
             '    where stopped.gate = any(looked) and not exists (select from pgqueue.job where job.id = stopped.job_id);\n'
             '    insert into pgqueue.note (node_id, kind)\n'),
            ('attend', E'    if gates <> ''{}'' then\n',
             E'    if gates <> ''{}'' then\n'
             '        lines := pgqueue.lines_of(gates);\n'
             '        if lines <> ''{}'' then\n'
             '            select * into let_through from pgqueue.attend_lines(lines);\n'
             '            more := more || let_through.more;\n'
             '            lanes := lanes || let_through.lanes;\n'
             '            gates := array(select given.id from unnest(gates) as given (id) where given.id <> all(lines));\n'
             '        end if;\n'
             '    end if;\n'
             '    if gates <> ''{}'' then\n'),
            ('attend', E'    gates uuid[];\n', E'    gates uuid[];\n    lines uuid[];\n'),
            ('transition', E'        if after <> ''pending'' then\n            perform pgqueue.give_back',
             E'        if after <> ''pending'' then\n            perform pgqueue.leave_line(array[transition.id]);\n'
             '            perform pgqueue.give_back'),
            ('replace_jobs', E'                perform pgqueue.give_back(array[call.job_id]);\n',
             E'                perform pgqueue.leave_line(array[call.job_id]);\n'
             '                perform pgqueue.give_back(array[call.job_id]);\n'),
            ('fork', E'hooks, gates)\n', E'hooks, gates, turn)\n'),
            ('fork', E'            nullif(source.hooks & 6, 0), source.gates);\n',
             E'            nullif(source.hooks & 38, 0), source.gates,\n'
             '            case when source.turn is not null then nextval(''pgqueue.position'') end);\n'),
            ('submit', E'array_agg(given.job_id order by given.job_id), json_agg(given.gates order by given.job_id))',
             E'array_agg(given.job_id order by given.rank, given.job_id), json_agg(given.gates order by given.rank, given.job_id))'),
            ('submit', E'as given (job_id uuid, gates json)', E'as given (job_id uuid, gates json, rank integer)'),
            -- A redriven job takes its place again, and a discarded one leaves it to others.
            ('reopen', E'        perform pgqueue.gate_in(limited);\n',
             E'        perform pgqueue.start_lines(limited);\n        perform pgqueue.gate_in(limited);\n'),
            ('bury', E'    return taken;\n', E'    perform pgqueue.start_lines(ids);\n    return taken;\n'),
            -- What stops a line is kept until somebody has seen to it.
            ('is_needed', E'    return exists (\n        with recursive behind',
             E'    return exists (select from pgqueue.stopped where stopped.job_id = is_needed.id) or exists (\n'
             '        with recursive behind'),
            ('tables_about_jobs', E'''event''::text', E'''event''::text, ''stopped''::text')
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
        where pronamespace = 'pgqueue'::regnamespace and prosecdef and proname = 'declare_ordered'
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
