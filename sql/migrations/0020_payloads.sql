-- 0020 payloads: arguments that are enqueued by SQL are as large as the Python client's at most.
-- works with: 1
-- Workers may keep running: what is stored already stays as it is.

do $$
declare
    definition text := pg_get_functiondef('pgqueue.enqueue'::regproc);
    place constant text := E'    flaw := pgqueue.flaw_of(enqueue.task,';
begin
    if position(place in definition) = 0 then
        raise exception 'function pgqueue.enqueue is not as the migrations before this left it';
    end if;
    execute replace(definition, place,
        E'    if octet_length(enqueue.arguments::text) > 1048576 then\n'
        '        raise exception ''pgqueue.enqueue: the arguments of task % have % bytes: give at most 1048576'',\n'
        '            left(enqueue.task, 255), octet_length(enqueue.arguments::text) using errcode = ''invalid_parameter_value'';\n'
        '    end if;\n' || place);
end
$$;
