-- 0016 texts: every function that stores a text refuses what the Python client refuses.
-- works with: 1
-- Workers may keep running: what is stored already stays as it is.

-- Raise unless a text has a length that can be stored; null: there is none.
create function pgqueue.check_text(what text, given text, longest integer, shortest integer default 0) returns void
language plpgsql immutable set search_path to pg_catalog, pg_temp as $$
begin
    if length(given) not between shortest and longest then
        raise exception '% has % characters: give % to %', what, length(given), shortest, longest
            using errcode = 'invalid_parameter_value';
    end if;
end
$$;

-- What is wrong with the parts of a call that flaw_of is not told of; null: nothing.
create function pgqueue.flaw_of_parts(headers text, options text, hold json) returns text
language sql stable set search_path to pg_catalog, pg_temp as $$
    select case
        when length(options) > 100000 then format('its options have %s characters: give at most 100000', length(options))
        when (select count(*) from json_each_text(headers::json)) > 100 then 'it has more than 100 headers'
        when exists (
            select from json_each_text(headers::json)
            where coalesce(length(key) not between 1 and 512 or length(value) not between 1 and 8192, true)
        ) then 'the name of a header must have 1 to 512 characters, its value 1 to 8192'
        when length(hold ->> 'key') not between 1 and 512
            then format('its idempotency key has %s characters: give 1 to 512', length(hold ->> 'key'))
    end
$$;

-- Functions that check what they are given first. What they are now is in sql/schema.sql.
do $$
declare
    change text[];
    definition text;
    checks text;
begin
    for change in
        select array[name, string_agg(format(
            E'    perform pgqueue.check_text(%L, %s.%I, %s, %s);\n',
            'pgqueue.' || name || ': ' || parameter, name, parameter, longest, shortest), '' order by parameter)]
        from (values
            ('begin_redrive', 'queue', 200, 1), ('begin_redrive', 'reason', 1000, 0), ('begin_redrive', 'actor', 1000, 0),
            ('bury', 'reason', 1000, 0), ('bury', 'actor', 1000, 0),
            ('cancel', 'reason', 1000, 0), ('cancel', 'actor', 1000, 0),
            ('discard', 'reason', 1000, 0), ('discard', 'actor', 1000, 0),
            ('discard_some', 'reason', 1000, 0), ('discard_some', 'actor', 1000, 0),
            ('mark_processed', 'source', 512, 0), ('mark_processed', 'event_id', 512, 0),
            ('redrive', 'queue', 200, 1), ('redrive', 'reason', 1000, 0), ('redrive', 'actor', 1000, 0),
            ('reopen', 'action', 200, 1), ('reopen', 'in_queue', 200, 1),
            ('reopen', 'reason', 1000, 0), ('reopen', 'actor', 1000, 0),
            ('reprioritise', 'reason', 1000, 0), ('reprioritise', 'actor', 1000, 0),
            ('requeue', 'reason', 1000, 0), ('requeue', 'actor', 1000, 0),
            ('set_paused', 'named', 255, 1), ('set_paused', 'reason', 1000, 0), ('set_paused', 'actor', 1000, 0),
            ('transition', 'reason', 1000, 0)
        ) as given (name, parameter, longest, shortest)
        group by name
    loop
        definition := pg_get_functiondef(('pgqueue.' || change[1])::regproc);
        if definition !~ E'\nbegin\n' then
            raise exception 'function pgqueue.% is not as the migrations before this left it', change[1];
        end if;
        execute regexp_replace(definition, E'\nbegin\n', E'\nbegin\n' || change[2]);
    end loop;
    foreach change slice 1 in array array[
        -- A redrive that was begun before this goes on.
        ['carry_redrive', 'this.reason, this.actor)', 'left(this.reason, 1000), left(this.actor, 1000))'],
        ['begin_redrive', E'\nbegin\n',
         E'\nbegin\n    perform pgqueue.check_text(''pgqueue.begin_redrive: filter'', filter::text, 100000);\n'],
        ['submit', 'expires_at timestamptz, expires_after double precision, hold json)',
         'expires_at timestamptz, expires_after double precision, hold json, options text, headers text)'],
        ['submit', 'given.hold ->> ''scope'') as flaw',
         E'given.hold ->> ''scope'') as flaw,\n'
         '            pgqueue.flaw_of_parts(given.headers, given.options, given.hold) as other'],
        ['submit', 'call.flaw is not null', 'coalesce(call.flaw, call.other) is not null'],
        ['submit', 'call.job_id, call.flaw', 'call.job_id, coalesce(call.flaw, call.other)'],
        ['replace_jobs', E'    new_lane integer;\n', E'    new_lane integer;\n    flaw text;\n'],
        ['replace_jobs', 'new_lane := pgqueue.lane_for(',
         E'flaw := coalesce(pgqueue.flaw_of_parts(call.headers, call.options, null), pgqueue.flaw_of(\n'
         '            call.task, call.queue, call.key,\n'
         '            case when call.tags is not null then array(select json_array_elements_text(call.tags::json)) end,\n'
         '            coalesce(call.run_at, now() + make_interval(secs => call.delay)),\n'
         '            coalesce(call.expires_at, now() + make_interval(secs => call.expires_after)), null));\n'
         '        if flaw is not null then\n'
         '            raise exception ''pgqueue.replace_jobs: job %: %'', call.job_id, flaw\n'
         '                using errcode = ''invalid_parameter_value'';\n'
         '        end if;\n'
         '        new_lane := pgqueue.lane_for(']
    ] loop
        definition := pg_get_functiondef(('pgqueue.' || change[1])::regproc);
        if position(change[2] in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it', change[1];
        end if;
        execute replace(definition, change[2], change[3]);
    end loop;
end
$$;
