-- 0056 webhooks: the end of a job makes the jobs that tell of it.
-- works with: 1
-- Workers may keep running: the jobs that tell of ends are made by the database, and wait for a worker that knows their task.
--
-- What is to be told stands in the options of a job, under "webhooks": it goes with them through every door. The bit 64 of
-- its hooks says so, so a job without webhooks pays nothing at its end.

-- Have the ends of new jobs be told, of those whose options say so.
create function pgqueue.note_webhooks(ids uuid[]) returns void language plpgsql
set search_path to pg_catalog, pg_temp as $$
begin
    update pgqueue.job set hooks = coalesce(job.hooks, 0) | 64
    where job.id = any(ids) and job.status is null and job.options::text like '%"webhooks"%';
end
$$;

-- Make the jobs that tell of the ends of `ids`, in the transaction that ends these. Returns their lanes.
create function pgqueue.make_webhooks(ids uuid[]) returns integer[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    lanes integer[];
begin
    with ended as materialized (
        select job.id, job.task, job.status, job.reason, job.error, job.attempt, job.created_at, job.completed_at,
               job.tags, job.key, job.workflow_id, job.headers, job.options,
               (select lane.queue from pgqueue.lane where lane.id = job.lane) as queue
        from pgqueue.job
        where job.id = any(ids) and job.hooks & 64 > 0 and job.status is not null
    ),
    told as materialized (
        select ended.*, hook.value as hook, hook.value ->> 'task' as told_by, hook.value ->> 'queue' as told_in
        from ended
        cross join lateral json_array_elements(
            case json_typeof(ended.options -> 'webhooks') when 'array' then ended.options -> 'webhooks' else '[]' end) as hook
        where json_typeof(hook.value) = 'object' and hook.value ->> 'priority' ~ '^-?[0-9]{1,4}$'
          and json_typeof(hook.value -> 'on') = 'array'
          and ended.status::text in (select json_array_elements_text(hook.value -> 'on'))
          and hook.value ->> 'task' <> '' and hook.value ->> 'queue' <> ''
          and pgqueue.flaw_of(hook.value ->> 'task', hook.value ->> 'queue', null, null, null, null, null) is null
        limit 16 * cardinality(ids)
    ),
    due as materialized (
        select pgqueue.uuid7() as webhook_id, pgqueue.lane_of(told_in, (hook ->> 'priority')::smallint) as lane, told.*,
               json_build_object(
                   'type', 'job.' || status,
                   'timestamp', to_char(completed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                   'data', json_build_object(
                       'job_id', id, 'task', task, 'queue', queue, 'status', status, 'reason', reason,
                       'error_type', error ->> 'type', 'attempt', coalesce(attempt, 0), 'tags', coalesce(tags, '{}'),
                       'key', key, 'workflow_id', workflow_id,
                       'created_at', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                       'ended_at', to_char(completed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))) as body
        from (select * from told order by told_in, hook ->> 'priority', id) as told
    ),
    made as (
        insert into pgqueue.job (id, lane, task, arguments, headers, key)
        select webhook_id, lane, told_by,
               case when hook ->> 'url' is null then json_build_object('body', body)
                    else json_build_object('body', body, 'url', hook ->> 'url') end,
               -- In the trace of the job that it tells of.
               case when headers ->> 'traceparent' is not null
                    then json_strip_nulls(json_build_object(
                        'traceparent', headers ->> 'traceparent', 'tracestate', headers ->> 'tracestate')) end,
               id::text
        from due
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane) select webhook_id, lane from due order by webhook_id returning lane
    )
    select array(select distinct lane from queued) into lanes;
    return lanes;
end
$$;

-- Tell of the ends of `ids`. Options that somebody has written by hand, and that cannot be read, stop no end, and no other
-- webhook. Returns the lanes of the jobs that tell.
create function pgqueue.tell_ends(ids uuid[]) returns integer[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    lanes integer[] := '{}';
    each uuid;
begin
    begin
        return pgqueue.make_webhooks(ids);
    exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
        if cardinality(ids) = 1 then
            raise warning 'the webhooks of job % cannot be sent: %', ids[1], sqlerrm;
            return '{}';
        end if;
    end;
    foreach each in array ids loop
        lanes := lanes || pgqueue.tell_ends(array[each]);
    end loop;
    return lanes;
end
$$;

do $migration$
declare
    change record;
    definition text;
begin
    for change in
        select * from (values
            -- In the transaction that ends a job.
            ('settle', E'    if hooks & 8 > 0 then\n',
             E'    if hooks & 64 > 0 then\n'
             '        lanes := lanes || pgqueue.tell_ends(ids);\n'
             '    end if;\n'
             '    if hooks & 8 > 0 then\n'),
            -- Cancelled because of those before it: workers are not told by whoever attends.
            ('spoil', E'    select array_agg(id) into cancelled from ended;\n',
             E'    select array_agg(id) into cancelled from ended;\n'
             '    if cancelled is not null and exists (\n'
             '        select from pgqueue.job where job.id = any(cancelled) and job.hooks & 64 > 0\n'
             '    ) then\n'
             '        perform pg_notify(''pgqueue'', ''ready '' || told)\n'
             '        from unnest(pgqueue.tell_ends(cancelled)) as told where pg_notification_queue_usage() < 0.9::float8;\n'
             '    end if;\n'),
            -- The doors that write hooks themselves.
            ('write_workflow', 'nullif(node.traits & 11, 0)', 'nullif(node.traits & 75, 0)'),
            ('fork', 'nullif(source.hooks & 38, 0)', 'nullif(source.hooks & 102, 0)'),
            ('submit', E'    perform pgqueue.wait_for(followers, followed);\n',
             E'    perform pgqueue.wait_for(followers, followed);\n'
             '    perform pgqueue.note_webhooks(array_agg(given.job_id))\n'
             '    from json_to_recordset(calls) as given (job_id uuid, options text)\n'
             '    where given.options like ''%%"webhooks"%%'' and given.job_id not in (select unnest(unmade))\n'
             '    having count(*) > 0;\n'),
            ('replace_jobs', E'        if end_at is not null then\n',
             E'        if call.options like ''%%"webhooks"%%'' then\n'
             '            perform pgqueue.note_webhooks(array[call.job_id]);\n'
             '            hooked := coalesce(hooked, 0) | 64;\n'
             '        end if;\n'
             '        if end_at is not null then\n')
        ) as changes (name, was, becomes)
    loop
        definition := pg_get_functiondef(format('pgqueue.%s', change.name)::regproc);
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it', change.name;
        end if;
        execute replace(definition, change.was, replace(change.becomes, '%%', '%'));
    end loop;
end
$migration$;
