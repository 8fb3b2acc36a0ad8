-- 0025 parts: workflows that are written in parts, each by a call of its own, while the client compiles the next one.
-- works with: 1
-- Workers and clients may keep running: those of earlier versions write workflows by submit_workflow, as before.

-- Write workflow `workflow`, or a part of it: without a root more parts follow, in the same transaction.
--
-- Nodes are named by their places in `ids`, from 1, so none can be another workflow's; those behind the last of
-- `documents` are joins. `traits` of a job are its hooks, and 4 if it waits. `ups` may be nodes of earlier parts, or, if
-- the workflow says that it waits for others, jobs that were there before. Returns, as JSON, the notes that it wrote, and
-- the lanes that have new ready jobs.
create function pgqueue.write_workflow(
    workflow json, ids uuid[], documents json, numbers integer[], traits integer[], templates json, barriers json,
    ups uuid[], downs integer[], positions integer[], directs boolean[], callbacks json
) returns json language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
declare
    flaw text;
    new_id uuid := (workflow ->> 'id')::uuid;
    notes bigint[];
    told bigint[];
    lanes integer[];
begin
    select coalesce(
        case when coalesce(given.task, '') = '' or coalesce(given.queue, '') = '' then 'a job needs a task and a queue'
             when json_typeof(given.options::json) <> 'object' or json_typeof(given.headers::json) <> 'object'
                 then 'options and headers must be objects' end,
        pgqueue.flaw_of(
            given.task, given.queue, given.key,
            case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end,
            coalesce(given.run_at, now() + make_interval(secs => given.delay)),
            coalesce(given.expires_at, now() + make_interval(secs => given.expires_after)), null))
    into flaw
    from json_to_recordset(templates) as given (
        task text, queue text, key text, tags text, options text, headers text, run_at timestamptz,
        delay double precision, expires_at timestamptz, expires_after double precision)
    order by 1 limit 1;
    if flaw is not null then
        raise exception 'pgqueue.write_workflow: workflow %: %', new_id, flaw using errcode = 'invalid_parameter_value';
    end if;
    perform pgqueue.lane_for(lane.queue, lane.priority, lane.id)
    from (
        select distinct given.queue, given.priority, given.lane as id
        from json_to_recordset(templates) as given (queue text, priority smallint, lane integer)
        order by 1, 2
    ) as lane;

    if workflow ->> 'root' is not null then
        insert into pgqueue.workflow (id, root, name, parent_job)
        values (new_id, ids[(workflow ->> 'root')::integer], workflow ->> 'name', (workflow ->> 'parent_job')::uuid);
    elsif exists (select from pgqueue.workflow as written where written.id = new_id) then
        -- Nobody adds to a workflow that is there.
        raise exception 'pgqueue.write_workflow: workflow % exists', new_id using errcode = 'unique_violation';
    end if;
    with leading_to as (
        select down, count(*)::integer as total from unnest(downs) as down group by down
    ),
    made as (
        insert into pgqueue.barrier (
            id, workflow_id, is_join, needs, runs_anyway, fail_fast, total, open, state, ended_at)
        select ids[given.node], new_id, given.node > cardinality(numbers), given.needs, given.runs_anyway, given.fail_fast,
               coalesce(leading_to.total, 0), coalesce(leading_to.total, 0),
               -- The end of an empty group.
               case when leading_to.total is null then 'fired' end, case when leading_to.total is null then now() end
        from json_to_recordset(barriers) as given (
            node integer, needs integer, runs_anyway boolean, fail_fast boolean)
        left join leading_to on leading_to.down = given.node
        returning id, is_join, total
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind) select id, 'ended' from made where is_join and total = 0 returning id
    )
    select array_agg(id) into notes from fresh;
    insert into pgqueue.edge (upstream, downstream, position, direct)
    select given.up, ids[given.down], given.position, given.direct
    from unnest(ups, downs, positions, directs) as given (up, down, position, direct);
    with template as materialized (
        select given.number, coalesce(lane.id, given.lane) as lane, given.task,
               coalesce(given.expires_at, now() + make_interval(secs => given.expires_after)) as expires_at,
               given.options::json, given.headers::json, given.key, given.run_at,
               make_interval(secs => given.delay) as delay,
               case when given.tags is not null then array(select json_array_elements_text(given.tags::json)) end as tags
        from rows from (json_to_recordset(templates) as (
            queue text, priority smallint, task text, run_at timestamptz, delay double precision, expires_at timestamptz,
            expires_after double precision, options text, headers text, tags text, key text, lane integer)) with ordinality
            as given (queue, priority, task, run_at, delay, expires_at, expires_after, options, headers, tags, key, lane, number)
        left join pgqueue.lane
            on lane.queue = given.queue and lane.priority = given.priority and lane.task = '' and lane.removed_at is null
    ),
    node as materialized (
        select given.id, given.arguments, given.traits, given.traits & 4 > 0 as waits, template.*
        from rows from (unnest(ids), json_array_elements(documents), unnest(numbers), unnest(traits))
            as given (id, arguments, number, traits)
        join template on template.number = given.number
    ),
    added as (
        insert into pgqueue.job (
            id, lane, task, arguments, expires_at, options, headers, tags, key, run_at, hooks, workflow_id)
        select node.id, node.lane, node.task, node.arguments, node.expires_at, node.options, node.headers, node.tags,
               node.key, coalesce(node.run_at, case when not node.waits then now() + node.delay end),
               nullif(node.traits & 11, 0), new_id
        from node
    ),
    blocked as (
        insert into pgqueue.blocked (job_id, lane, delay) select id, lane, delay from node where waits
    ),
    waiting as (
        insert into pgqueue.scheduled (job_id, scheduled_at, lane)
        select id, coalesce(run_at, now() + delay), lane from node
        where not waits and coalesce(run_at, now() + delay) > now()
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane)
        select id, lane from node
        where not waits and (coalesce(run_at, now() + delay) > now()) is not true order by id
        returning lane
    )
    select array_agg(distinct lane) into lanes from queued;
    if exists (
        select from generate_series(cardinality(numbers) + 1, cardinality(ids)) as place
        where (select true from pgqueue.job where job.id = ids[place])
    ) then
        raise exception 'pgqueue.write_workflow: workflow %: a join has the id of a job', new_id
            using errcode = 'invalid_parameter_value';
    end if;
    insert into pgqueue.callback (
        node_id, number, on_end, takes_inputs, queue, priority, task, arguments, options, headers, tags, key)
    select ids[given.node], given.number, given.on_end, given.takes_inputs, made.queue, made.priority, made.task,
           given.arguments::json, made.options::json, made.headers::json,
           case when made.tags is not null then array(select json_array_elements_text(made.tags::json)) end, made.key
    from json_to_recordset(callbacks) as given (
        node integer, number integer, on_end text, takes_inputs boolean, template integer, arguments text)
    cross join lateral json_to_record(templates -> (given.template - 1)) as made (
        queue text, priority smallint, task text, options text, headers text, tags text, key text);
    if (workflow ->> 'waits_for_others')::boolean then
        -- Jobs that were there before are told of it after the commit: locked here, they could not end until then.
        with fresh as (
            insert into pgqueue.note (node_id, kind)
            select distinct ids[given.down], 'written'
            from unnest(ups, downs) as given (up, down)
            where given.up not in (select unnest(ids))
            returning id
        )
        select array_agg(id) into told from fresh;
    end if;
    return json_build_object('notes', coalesce(notes || told, '{}'), 'lanes', coalesce(lanes, '{}'));
end
$$;

-- Who may write workflows the old way may write them in parts.
do $$
declare
    definer constant regprocedure := 'pgqueue.write_workflow'::regproc::oid::regprocedure;
    grantee text;
begin
    execute format('revoke execute on function %s from public', definer);
    for grantee in
        select distinct case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end
        from pg_proc cross join lateral aclexplode(proacl) as acl
        where pg_proc.oid = 'pgqueue.submit_workflow'::regproc and acl.privilege_type = 'EXECUTE'
          and acl.grantee <> proowner
    loop
        execute format('grant execute on function %s to %s', definer, grantee);
    end loop;
end
$$;
