-- 0029 limits: what code declared of a limit is kept beside what operators made of it.
-- works with: 1
-- Workers may keep running.

alter table pgqueue.limit_rule
    add column declared integer,                  -- its slots as code declared them first; null: none has
    add column reason   text;                     -- why an operator changed it
update pgqueue.limit_rule set declared = slots where edited_at is null;

-- By replacement, as other migrations do it: whatever else these have become stays.
do $$
declare
    change record;
    definition text;
begin
    for change in
        select * from (values
            ('declare_limit', E'as rule (name, slots, when_full)\n', E'as rule (name, slots, declared, when_full)\n'),
            ('declare_limit', E'values (declare_limit.name, declare_limit.slots, declare_limit.when_full)\n',
             E'values (declare_limit.name, declare_limit.slots, declare_limit.slots, declare_limit.when_full)\n'),
            ('declare_limit', E'do update set when_full = excluded.when_full where',
             E'do update set when_full = excluded.when_full, declared = excluded.declared where')
        ) as given (name, was, becomes)
    loop
        definition := pg_get_functiondef(('pgqueue.' || change.name)::regproc);
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it: %', change.name, change.was;
        end if;
        execute replace(definition, change.was, change.becomes);
    end loop;
end
$$;

-- Change a limit while jobs wait for it. Null slots: it lets all through.
drop function pgqueue.set_limit(text, integer, text);
create function pgqueue.set_limit(name text, slots integer, actor text default null, reason text default null) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    perform pgqueue.check_text('pgqueue.set_limit: actor', set_limit.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.set_limit: reason', set_limit.reason, 1000, 0);
    perform pgqueue.check_text('pgqueue.set_limit: name', set_limit.name, 300, 1);
    if set_limit.slots < 1 then
        raise exception 'pgqueue.set_limit: limit % must have at least 1 slot, got %', set_limit.name, set_limit.slots
            using errcode = 'invalid_parameter_value';
    end if;
    insert into pgqueue.limit_rule as rule (name, slots, edited_at, actor, reason)
    values (set_limit.name, set_limit.slots, now(), coalesce(set_limit.actor, session_user), set_limit.reason)
    on conflict on constraint limit_rule_pkey do update
    set slots = excluded.slots, edited_at = excluded.edited_at, actor = excluded.actor, reason = excluded.reason, changed_at = now();
    insert into pgqueue.note (node_id, kind) select gate.id, 'gate' from pgqueue.gate where gate.rule = set_limit.name;
end
$$;

-- Make a limit what code declared of it. One that no code has declared goes, and lets all through until code does.
-- False: no operator has changed it. Null: there is none.
create function pgqueue.reset_limit(name text, actor text default null, reason text default null) returns boolean
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    present record;
begin
    perform pgqueue.check_text('pgqueue.reset_limit: actor', reset_limit.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.reset_limit: reason', reset_limit.reason, 1000, 0);
    select rule.when_full, rule.edited_at into present
    from pgqueue.limit_rule as rule where rule.name = reset_limit.name for update;
    if not found then
        return null;
    end if;
    if present.edited_at is null then
        return false;
    end if;
    if present.when_full is null then
        delete from pgqueue.limit_rule as rule where rule.name = reset_limit.name;
    else
        update pgqueue.limit_rule as rule
        set slots = rule.declared, edited_at = null, actor = coalesce(reset_limit.actor, session_user),
            reason = reset_limit.reason, changed_at = now()
        where rule.name = reset_limit.name;
    end if;
    insert into pgqueue.note (node_id, kind) select gate.id, 'gate' from pgqueue.gate where gate.rule = reset_limit.name;
    return true;
end
$$;
