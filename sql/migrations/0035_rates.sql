-- 0035 rates: limits by rate are declared, changed, and slowed down by those who meet one elsewhere.
-- works with: 1
-- Workers may keep running: they know no rates.

alter table pgqueue.limit_rule
    add column declared_rate double precision,    -- as code declared it first; null: it has none
    add column declared_burst integer;

-- By replacement, as other migrations do it: whatever else these have become stays.
do $$
declare
    change record;
    present text;
    definition text;
begin
    for change in
        select * from (values
            ('declare_limit', E'when_full text)\n', E'when_full text, rate double precision DEFAULT NULL::double precision, burst integer DEFAULT NULL::integer)\n'),
            ('declare_limit', E'    if coalesce(declare_limit.slots < 1, true) or',
             E'    perform pgqueue.check_rate(''pgqueue.declare_limit'', declare_limit.name, declare_limit.rate, declare_limit.burst);\n'
             '    if declare_limit.rate is not null and declare_limit.slots is not null then\n'
             '        raise exception ''pgqueue.declare_limit: limit % has slots or a rate, and not both'', declare_limit.name\n'
             '            using errcode = ''invalid_parameter_value'';\n'
             '    end if;\n'
             '    if coalesce(declare_limit.slots < 1, declare_limit.rate is null) or'),
            ('declare_limit', E'as rule (name, slots, declared, when_full)\n',
             E'as rule (name, slots, declared, when_full, kind, rate, burst, declared_rate, declared_burst)\n'),
            ('declare_limit', E'declare_limit.slots, declare_limit.when_full)\n',
             E'declare_limit.slots, declare_limit.when_full,\n'
             '            case when declare_limit.rate is null then ''slots'' else ''rate'' end, declare_limit.rate,\n'
             '            pgqueue.burst_of(declare_limit.rate, declare_limit.burst),\n'
             '            declare_limit.rate, pgqueue.burst_of(declare_limit.rate, declare_limit.burst))\n'),
            ('declare_limit', E'declared = excluded.declared where',
             E'declared = excluded.declared,\n'
             '        declared_rate = excluded.declared_rate, declared_burst = excluded.declared_burst where'),
            ('set_limit', E'slots integer, actor text DEFAULT NULL::text, reason text DEFAULT NULL::text)\n',
             E'slots integer DEFAULT NULL::integer, actor text DEFAULT NULL::text, reason text DEFAULT NULL::text, rate double precision DEFAULT NULL::double precision, burst integer DEFAULT NULL::integer)\n'),
            ('set_limit', E'    insert into pgqueue.limit_rule as rule (name, slots, edited_at, actor, reason)\n',
             E'    perform pgqueue.check_rate(''pgqueue.set_limit'', set_limit.name, set_limit.rate, set_limit.burst);\n'
             '    if set_limit.rate is not null and (set_limit.slots is not null or starts_with(set_limit.name, ''fair/'')) then\n'
             '        raise exception ''pgqueue.set_limit: limit % has slots or a rate, and not both'', set_limit.name\n'
             '            using errcode = ''invalid_parameter_value'';\n'
             '    end if;\n'
             '    insert into pgqueue.limit_rule as rule (name, slots, edited_at, actor, reason, kind, rate, burst)\n'),
            ('set_limit', E', set_limit.reason)\n    on conflict',
             E', set_limit.reason,\n'
             '            case when set_limit.rate is null then ''slots'' else ''rate'' end, set_limit.rate,\n'
             '            pgqueue.burst_of(set_limit.rate, set_limit.burst))\n'
             '    on conflict'),
            ('set_limit', E'    set slots = excluded.slots,',
             E'    set slots = excluded.slots, rate = excluded.rate, burst = excluded.burst,\n'
             '        -- Without both, of its own kind: it lets all through.\n'
             '        kind = case when excluded.rate is not null then ''rate''\n'
             '                    when excluded.slots is not null and rule.kind = ''rate'' then ''slots'' else rule.kind end,\n'
             '       '),
            ('reset_limit', E'set slots = rule.declared,',
             E'set slots = rule.declared, rate = rule.declared_rate, burst = rule.declared_burst,\n'
             '            kind = case when rule.declared_rate is not null then ''rate'' when rule.kind = ''rate'' then ''slots'' else rule.kind end,\n'
             '           ')
        ) as given (name, was, becomes)
    loop
        if change.name is distinct from present then
            if present is not null then
                execute definition;
            end if;
            present := change.name;
            definition := pg_get_functiondef(('pgqueue.' || present)::regproc);
            if present = 'declare_limit' then
                drop function pgqueue.declare_limit(text, integer, text);
            elsif present = 'set_limit' then
                drop function pgqueue.set_limit(text, integer, text, text);
            end if;
        end if;
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it: %', present, change.was;
        end if;
        definition := replace(definition, change.was, change.becomes);
    end loop;
    execute definition;
end
$$;

-- Raise unless a rate can be kept to; null: there is none.
create function pgqueue.check_rate(what text, name text, rate double precision, burst integer) returns void
language plpgsql immutable set search_path to pg_catalog, pg_temp as $$
begin
    if coalesce(check_rate.rate not between 1e-9 and 1e6, false) then
        raise exception '%: limit % must have a rate from 0.000000001 to 1,000,000 jobs per second, got %', what,
            check_rate.name, check_rate.rate using errcode = 'invalid_parameter_value';
    end if;
    if check_rate.burst is not null and (check_rate.burst not between 1 and 10000 or check_rate.rate is null) then
        raise exception '%: limit % must have a burst from 1 to 10,000 beside a rate, got %', what, check_rate.name,
            check_rate.burst using errcode = 'invalid_parameter_value';
    end if;
end
$$;

-- How many jobs a rate lets through at once after a rest; null: there is no rate.
create function pgqueue.burst_of(rate double precision, burst integer) returns integer
language sql immutable set search_path to pg_catalog, pg_temp as $$
    select case when rate is not null then coalesce(burst, least(10000, greatest(1, ceil(rate / 10)))::integer) end
$$;

-- Settle, as `settle` does, and close the rates that `slowed` have passed, each until its time: a note of each says so
-- to whoever lets jobs through.
create function pgqueue.settle_slowed(ids uuid[], hooks integer, slowed uuid[], until timestamptz[]) returns json
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    settled json := pgqueue.settle(ids, hooks);
    notes json;
begin
    with closed as (
        select pgqueue.key_id(limited.rule, limited.key) as gate, max(limited.until) as until
        from (
            select job.gates[2 * number - 1] as rule, job.gates[2 * number] as key, given.until
            from unnest(slowed, settle_slowed.until) as given (id, until)
            join pgqueue.job on job.id = given.id
            cross join lateral generate_series(1, cardinality(job.gates) / 2) as number
            where job.id = any(slowed)
        ) as limited
        join pgqueue.limit_rule on limit_rule.name = limited.rule
        where limit_rule.kind = 'rate'
        group by 1
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind, closed_until) select closed.gate, 'gate', closed.until from closed returning id
    )
    select json_agg(noted.id) into notes
    from (select fresh.id from fresh
          union all select (known.id #>> '{}')::bigint from json_array_elements(settled -> 'notes') as known (id)) as noted;
    return json_build_object('notes', coalesce(notes, '[]'), 'lanes', settled -> 'lanes');
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
