-- 0040 buckets: one whose time is none is full, and does not stay empty.
-- works with: 1
-- Workers may keep running.

do $$
declare
    definition text := pg_get_functiondef('pgqueue.take_limiter'::regproc);
    was constant text := E'        tokens := least(most, coalesce(\n'
        '            state.tokens + greatest(extract(epoch from moment - state.at), 0) * most / period, most));\n';
begin
    if position(was in definition) = 0 then
        raise exception 'function pgqueue.take_limiter is not as the migrations before this left it';
    end if;
    execute replace(definition, was,
        E'        -- Not by greatest alone: it takes no notice of null.\n'
        '        tokens := case\n'
        '            when state.at is null then most\n'
        '            else least(most, coalesce(\n'
        '                state.tokens + greatest(extract(epoch from moment - state.at), 0) * most / period, most)) end;\n');
end
$$;
