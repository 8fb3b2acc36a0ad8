-- 0014 workflows: jobs that wait for the ends of others, in graphs that are written at once.
-- works with: 1
-- Workers may keep running: what they end is noticed within a minute. Each partition of the jobs is read once, for an
-- index; enqueues wait for that.
--
-- Whoever ends a job writes only rows of its own, and a note (`settle`, in the tail of every statement that ends jobs).
-- Right after its commit the note is attended to (`attend`), in a transaction that need not be on the disk; if that is
-- lost, the note is there, and any worker attends to it within a second. So a barrier is no row that all who finish wait
-- for. Locks are taken in one order: notes (skipping locked ones), workflows by id, records by id, places. Who changes
-- edges or barriers of a workflow holds its row, and then looks anew.

alter table pgqueue.job add column hooks smallint;         -- null: nobody waits for it. Bits: 1 edges, 2 takes inputs, 8 callbacks
alter table pgqueue.job add column workflow_id uuid;
create index job_workflow_id on pgqueue.job (workflow_id, id) where workflow_id is not null;

alter table pgqueue.blocked add column delay interval;     -- from the moment that nothing blocks it any more

create table pgqueue.workflow (
    id         uuid not null primary key,
    root       uuid not null,                -- the node whose end is the workflow's
    name       text,
    parent_job uuid,                         -- the job that runs it as a child
    created_at timestamptz not null default now(),
    paused_at  timestamptz                   -- nothing becomes ready since then; null: not paused
);
create index workflow_root on pgqueue.workflow (root);

-- A node that waits for several others: a job, or a join, which is a node without a job. Links of chains have none.
create table pgqueue.barrier (
    id          uuid not null primary key,
    workflow_id uuid not null,
    is_join     boolean not null,
    needs       integer,                     -- how many must succeed; null: all must end
    runs_anyway boolean not null default false, -- even if some did not succeed
    fail_fast   boolean not null default false,
    total       integer not null,
    open        integer not null,            -- nodes before it that have not ended
    failed      integer not null default 0,  -- those that have not succeeded
    state       text check (state in ('fired', 'failed')),
    ended_at    timestamptz                  -- when it got its state
) with (fillfactor = 50);

create table pgqueue.edge (
    upstream   uuid not null,
    downstream uuid not null,
    position   integer not null,             -- of the result among the inputs
    direct     boolean not null,             -- a link of a chain: the only edge of its successor
    outcome    pgqueue.job_status,           -- of the upstream; null: not counted. Of links that succeed it may stay null
    primary key (upstream, downstream)
) with (fillfactor = 70);
create index edge_downstream on pgqueue.edge (downstream, position);

-- What is to be attended to. Empty but for moments. A node may be noted twice: with one row for each, a note would fall
-- on an earlier one that is just being taken, and be lost with it.
create table pgqueue.note (
    id      bigint generated always as identity primary key,
    node_id uuid not null,
    kind    text not null default 'ended' check (kind in ('ended', 'written', 'doomed'))
);

-- What is made when a node has ended.
create table pgqueue.callback (
    node_id      uuid not null,
    number       integer not null,
    on_end       text not null check (on_end in ('success', 'error', 'complete')),
    takes_inputs boolean not null,
    queue        text not null,
    priority     smallint not null,
    task         text not null,
    arguments    json not null,
    options      json,
    headers      json,
    tags         text[],
    key          text,
    made_for     timestamptz,                -- the end of the node for which it was made last
    primary key (node_id, number)
);

-- What a barrier becomes; null: it stays open. Every end counts, whatever the order.
create function pgqueue.decide(
    needs integer, runs_anyway boolean, fail_fast boolean, total integer, open integer, failed integer
) returns text language sql immutable parallel safe
return case
    when needs is not null then case when total - open - failed >= needs then 'fired' when total - failed < needs then 'failed' end
    when failed > 0 and fail_fast and not runs_anyway then 'failed'
    when open > 0 then null
    when failed = 0 or runs_anyway then 'fired'
    else 'failed'
end;

-- Move blocked jobs on: to the scheduled ones if their time has not come, otherwise to their lanes. Those of paused
-- workflows stay. Returns the lanes that have new ready jobs.
create function pgqueue.to_ready(ids uuid[]) returns integer[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    lanes integer[];
begin
    with free as materialized (
        select job.id, job.run_at
        from pgqueue.job
        where job.id = any(ids)
          and (select workflow.paused_at from pgqueue.workflow where workflow.id = job.workflow_id) is null
    ),
    moved as (
        delete from pgqueue.blocked
        where job_id = any(array(select id from free)) and waits_for is null
        returning job_id, lane, attempt, losses, delay
    ),
    timed as materialized (
        select moved.*, coalesce(now() + moved.delay, free.run_at) as starts_at
        from moved join free on free.id = moved.job_id
    ),
    waiting as (
        insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
        select job_id, starts_at, lane, attempt, losses from timed where starts_at > now()
        on conflict do nothing
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, attempt, losses)
        select job_id, lane, attempt, losses from timed where (starts_at > now()) is not true order by job_id
        on conflict do nothing
        returning lane
    )
    select array(select distinct lane from queued) into lanes;
    return lanes;
end
$$;

-- Called by the tail of every statement that ends jobs, with those that have hooks, and the hooks of all. Returns, as
-- JSON, the notes that it wrote, and the lanes that have new ready jobs. Waits for nobody but who moves a successor by
-- hand.
create function pgqueue.settle(ids uuid[], hooks integer) returns json language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    links uuid[];
    nexts uuid[];
    noted uuid[];
    notes bigint[];
    lanes integer[];
begin
    select array_agg(edge.upstream) filter (where edge.direct),
           array_agg(distinct edge.upstream) filter (where not edge.direct)
    into links, noted
    from pgqueue.edge
    where edge.upstream = any(ids);
    if links is not null then
        -- A link of a chain that succeeded: its successor becomes ready with that, and is nobody else's to move.
        nexts := array(
            select edge.downstream
            from pgqueue.edge
            where edge.direct
              and edge.upstream = any(array(
                  select job.id from pgqueue.job
                  where job.id = any(links) and job.status = 'succeeded'
                    and (select workflow.paused_at from pgqueue.workflow where workflow.id = job.workflow_id) is null))
            limit 201);
        if cardinality(nexts) > 200 then
            -- A wide fan-out: jobs that end in the same batch would wait for it.
            nexts := '{}';
        end if;
        if nexts <> '{}' then
            with moved as (
                delete from pgqueue.blocked where job_id = any(nexts) and waits_for is null returning job_id, lane, attempt, losses
            ),
            queued as (
                insert into pgqueue.ready (job_id, lane, attempt, losses)
                select job_id, lane, attempt, losses from moved order by job_id
                on conflict do nothing
                returning lane
            )
            select array_agg(distinct lane) into lanes from queued;
        end if;
        noted := noted || array(
            select distinct edge.upstream from pgqueue.edge
            where edge.upstream = any(links) and edge.direct and edge.downstream <> all(nexts));
    end if;
    if hooks & 8 > 0 then
        noted := noted || array(select distinct callback.node_id from pgqueue.callback where callback.node_id = any(ids));
    end if;
    if noted <> '{}' then
        with fresh as (
            insert into pgqueue.note (node_id) select distinct node from unnest(noted) as node returning id
        )
        select array_agg(id) into notes from fresh;
    end if;
    return json_build_object('notes', coalesce(notes, '{}'), 'lanes', coalesce(lanes, '{}'));
end
$$;

-- The error of a job that is cancelled because of those before it: it names the first 100 of them, and says how many.
create function pgqueue.describe_upstream(node uuid) returns json language plpgsql stable
set search_path to pg_catalog, pg_temp as $$
declare
    listed text;
    failed integer;
    inherited json;
begin
    -- Down a chain goes the error of its first link that failed.
    select job.error into inherited
    from pgqueue.job
    where job.id = any(array(
              select edge.upstream from pgqueue.edge where edge.downstream = node and edge.direct))
      and job.status = 'cancelled' and job.reason = 'upstream_failed';
    if inherited is not null then
        return inherited;
    end if;
    with recursive spoilt (id, outcome, position, path) as (
        select edge.upstream, edge.outcome, edge.position, array[edge.position]
        from pgqueue.edge
        where edge.downstream = node and edge.outcome is not null and edge.outcome <> 'succeeded'
        union all
        -- A join failed because of the nodes before it.
        select edge.upstream, edge.outcome, edge.position, spoilt.path || edge.position
        from spoilt
        cross join lateral (
            select upstream, outcome, position from pgqueue.edge
            where downstream = spoilt.id and outcome is not null and outcome <> 'succeeded'
            offset 0
        ) as edge
        where cardinality(spoilt.path) < 100
          and (select barrier.is_join from pgqueue.barrier where barrier.id = spoilt.id)
    ),
    named as materialized (
        select spoilt.id, spoilt.outcome, min(spoilt.path) as path
        from spoilt
        where (select barrier.is_join from pgqueue.barrier where barrier.id = spoilt.id) is not true
        group by spoilt.id, spoilt.outcome
    )
    select (select count(*) from named),
           string_agg(format('%s (%s%s)', first.id,
                             (select left(job.task, 255) || ', ' from pgqueue.job where job.id = first.id),
                             first.outcome), ', ' order by first.path)
    into failed, listed
    from (select * from named order by path limit 100) as first;
    return json_build_object('type', 'UpstreamFailed', 'message', format(
        'not started, because %s that it waited for did not succeed: %s%s',
        case failed when 1 then 'a job' else format('%s jobs', failed) end, listed,
        case when failed > 100 then format(' and %s more', failed - 100) else '' end));
end
$$;

-- Cancel those of `ids` that are blocked, because of what is before them. Returns these.
create function pgqueue.spoil(ids uuid[]) returns uuid[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    cancelled uuid[];
begin
    perform from pgqueue.job where job.id = any(ids) order by job.id for update;
    with gone as (
        delete from pgqueue.blocked where job_id = any(ids) and waits_for is null returning job_id, attempt
    ),
    ended as (
        update pgqueue.job
        set status = 'cancelled', completed_at = now(), attempt = nullif(gone.attempt, 0), reason = 'upstream_failed',
            error = pgqueue.describe_upstream(job.id)
        from gone
        where job.id = gone.job_id and job.id = any(ids)
        returning job.id
    )
    select array_agg(id) into cancelled from ended;
    return coalesce(cancelled, '{}');
end
$$;

-- Make the jobs that are called back for those of `ids` that have ended, once for each end. Returns their lanes.
create function pgqueue.call_back(ids uuid[]) returns integer[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    lanes integer[];
begin
    with ended as materialized (
        select job.id, job.status, job.completed_at as at
        from pgqueue.job where job.id = any(ids) and job.status is not null
        union all
        select barrier.id, (case barrier.state when 'fired' then 'succeeded' else 'failed' end)::pgqueue.job_status,
               barrier.ended_at
        from pgqueue.barrier where barrier.id = any(ids) and barrier.is_join and barrier.state is not null
    ),
    due as (
        update pgqueue.callback
        set made_for = ended.at
        from ended
        where callback.node_id = ended.id
          and callback.node_id = any(ids)
          and callback.on_end in ('complete', case ended.status when 'succeeded' then 'success' else 'error' end)
          and callback.made_for is distinct from ended.at
        returning callback.*, ended.status as outcome, pgqueue.uuid7() as job_id,
                  pgqueue.lane_of(callback.queue, callback.priority) as lane
    ),
    made as (
        insert into pgqueue.job (id, lane, task, arguments, options, headers, tags, key, hooks)
        select job_id, lane, task, arguments, options, headers, tags, key, case when takes_inputs then 2 end
        from due
    ),
    fed as (
        insert into pgqueue.edge (upstream, downstream, position, direct, outcome)
        select node_id, job_id, 0, true, outcome from due where takes_inputs
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane) select job_id, lane from due order by node_id, number returning lane
    )
    select array(select distinct lane from queued) into lanes;
    return lanes;
end
$$;

-- Make nodes known to the jobs that they wait for and that were there before: done after the commit of whoever wrote
-- the nodes, because who ends those jobs must not wait for that. Returns those that have ended, or are gone.
create function pgqueue.register(nodes uuid[]) returns uuid[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    before uuid[] := array(
        select distinct edge.upstream from pgqueue.edge where edge.downstream = any(nodes) and edge.outcome is null);
begin
    -- Whoever ends one of them now is waited for, or finds the hook.
    perform from pgqueue.job where job.id = any(before) order by job.id for update;
    update pgqueue.job set hooks = coalesce(job.hooks, 0) | 1
    where job.id = any(before) and job.status is null and (coalesce(job.hooks, 0) & 1) = 0;
    return array(
        select given.id from unnest(before) as given (id)
        where (select job.status is null from pgqueue.job where job.id = given.id) is not true
          and (select barrier.is_join from pgqueue.barrier where barrier.id = given.id) is not true);
end
$$;

-- Cancel up to `most` live nodes that only lead to barriers `doomed`, which cannot fire any more. Says whether there may
-- be more. Records that others hold are left for the next time.
create function pgqueue.cancel_before(doomed uuid[], most integer) returns boolean language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    level uuid[] := doomed;
    found uuid[] := doomed;
    chosen uuid[];
    live integer;
begin
    loop
        level := array(
            select distinct edge.upstream
            from pgqueue.edge
            where edge.downstream = any(level) and edge.outcome is null and edge.upstream <> all(found)
              -- What others wait for as well goes on.
              and (select true from pgqueue.edge as other
                   where other.upstream = edge.upstream and other.downstream <> all(found) limit 1) is null);
        exit when level = '{}';
        found := found || level;
    end loop;
    select count(*) into live from pgqueue.job
    where job.id = any(found) and job.id <> all(doomed) and job.status is null
      and not exists (select from pgqueue.cancel_request where cancel_request.job_id = job.id);
    chosen := array(
        select job.id from pgqueue.job
        where job.id = any(found) and job.id <> all(doomed) and job.status is null
          and not exists (select from pgqueue.cancel_request where cancel_request.job_id = job.id)
        order by job.id limit most for update skip locked);
    perform pgqueue.cancel(id, 'fail_fast', 'pgqueue') from unnest(chosen) as id;
    return live > cardinality(chosen);
end
$$;

-- Attend to up to `most` of what was noted: `notes`, or whatever there is if that is null. One level at a time: what a
-- join or a cancelled job means for others is a note again. Returns how many notes were taken, the notes that follow,
-- lanes with new ready jobs, and the jobs that were cancelled.
create function pgqueue.attend(
    notes bigint[], most integer, out taken integer, out more bigint[], out lanes integer[], out cancelled uuid[]
) language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    mine bigint[];
    nodes uuid[];
    written uuid[];
    doomed uuid[];
    gone uuid[] := '{}';
    fired uuid[];
    spoilt uuid[];
    ended uuid[];
    failing uuid[];
begin
    select array_agg(taking.id), array_agg(distinct taking.node_id) filter (where taking.kind = 'ended'),
           array_agg(distinct taking.node_id) filter (where taking.kind = 'written'),
           array_agg(distinct taking.node_id) filter (where taking.kind = 'doomed')
    into mine, nodes, written, doomed
    from (
        select note.id, note.node_id, note.kind from pgqueue.note
        where notes is null or note.id = any(notes)
        order by note.id limit most for update skip locked
    ) as taking;
    taken := coalesce(cardinality(mine), 0);
    lanes := '{}';
    cancelled := '{}';
    if taken = 0 then
        return;
    end if;
    perform pgqueue.hold_workflows(coalesce(nodes, '{}') || written || doomed);
    -- From here on a new snapshot: what was committed while this waited is seen.
    if written is not null then
        gone := pgqueue.register(written);
    end if;
    if nodes is not null then
        with over as materialized (
            select node.id,
                   case when waits.id is not null
                        then (case waits.state when 'fired' then 'succeeded' when 'failed' then 'failed' end)::pgqueue.job_status
                        when stands.id is null then 'cancelled'   -- removed by hand
                        else stands.status end as outcome         -- null: live again
            from unnest(nodes) as node (id)
            -- The lists inside: as a condition on the outer join they would read each table whole.
            left join (select job.id, job.status from pgqueue.job where job.id = any(nodes)) as stands on stands.id = node.id
            left join (
                select barrier.id, barrier.state from pgqueue.barrier where barrier.id = any(nodes) and barrier.is_join
            ) as waits on waits.id = node.id
        ),
        counted as (
            update pgqueue.edge set outcome = over.outcome
            from over
            where edge.upstream = over.id and edge.upstream = any(nodes) and edge.outcome is null and over.outcome is not null
            returning edge.downstream, edge.direct, over.outcome
        ),
        behind as materialized (
            select downstream as id, count(*)::integer as ended, (count(*) filter (where outcome <> 'succeeded'))::integer as spoilt
            from counted where not direct group by downstream
        ),
        before as materialized (
            select barrier.* from pgqueue.barrier where barrier.id = any(array(select id from behind))
        ),
        lowered as (
            update pgqueue.barrier
            set open = before.open - behind.ended, failed = before.failed + behind.spoilt,
                state = coalesce(before.state, pgqueue.decide(
                    before.needs, before.runs_anyway, before.fail_fast, before.total, before.open - behind.ended,
                    before.failed + behind.spoilt)),
                ended_at = case when before.state is null and pgqueue.decide(
                    before.needs, before.runs_anyway, before.fail_fast, before.total, before.open - behind.ended,
                    before.failed + behind.spoilt) is not null then clock_timestamp() else before.ended_at end
            from behind join before on before.id = behind.id
            where barrier.id = behind.id and barrier.id = any(array(select id from behind))
            returning barrier.id, barrier.is_join, barrier.fail_fast, barrier.state, before.state as was
        )
        select array_agg(id) filter (where state = 'fired' and not is_join),
               array_agg(id) filter (where state = 'failed' and not is_join),
               array_agg(id) filter (where is_join),
               array_agg(id) filter (where state = 'failed' and fail_fast)
        into fired, spoilt, ended, failing
        from lowered
        where was is null and state is not null;
        fired := fired || array(
            select edge.downstream from pgqueue.edge
            where edge.upstream = any(nodes) and edge.direct and edge.outcome = 'succeeded');
        spoilt := spoilt || array(
            select edge.downstream from pgqueue.edge
            where edge.upstream = any(nodes) and edge.direct and edge.outcome is not null and edge.outcome <> 'succeeded');
        if fired <> '{}' then
            lanes := pgqueue.to_ready(fired);
        end if;
        if spoilt <> '{}' then
            cancelled := pgqueue.spoil(spoilt);
        end if;
        lanes := lanes || pgqueue.call_back(nodes);
    end if;
    if doomed is not null and pgqueue.cancel_before(doomed, 500) then
        failing := failing || doomed;
    end if;
    ended := coalesce(ended, '{}') || cancelled || gone;
    with fresh as (
        insert into pgqueue.note (node_id, kind)
        select node.id, 'ended'
        from (
            select edge.upstream as id from pgqueue.edge where edge.upstream = any(ended)
            union
            select callback.node_id from pgqueue.callback where callback.node_id = any(ended)
        ) as node
        union all
        select node.id, 'doomed' from unnest(failing) as node (id)
        returning id
    )
    select array_agg(id) into more from fresh;
    delete from pgqueue.note where note.id = any(mine);
end
$$;

-- Lock the workflows of nodes and of what waits for them, in one order for all: for those who change their edges and
-- barriers. Before any record of a job is locked.
create function pgqueue.hold_workflows(nodes uuid[]) returns void language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    concerned uuid[] := array(
        with recursive behind (id) as (
            select id from unnest(nodes) as given (id)
            union
            -- Behind what failed, the failure went on.
            select edge.downstream
            from behind
            cross join lateral (
                select downstream from pgqueue.edge
                where upstream = behind.id and outcome is not null and outcome <> 'succeeded'
                offset 0
            ) as edge
        )
        select id from behind
        union
        select edge.downstream from pgqueue.edge where edge.upstream = any(nodes));
    workflows uuid[] := array(
        select job.workflow_id from pgqueue.job where job.id = any(concerned) and job.workflow_id is not null
        union
        select barrier.workflow_id from pgqueue.barrier where barrier.id = any(concerned));
begin
    perform from pgqueue.workflow where workflow.id = any(workflows) order by workflow.id for update;
end
$$;

-- Have what waits for `ids`, which are being made pending again, wait for them again: the barriers behind them are armed
-- anew as far as their failure went, and the jobs that were cancelled for it are blocked again. What has started stays.
create function pgqueue.rearm(ids uuid[], actor text) returns void language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    level uuid[] := ids;
    nexts uuid[];
    blocked_again uuid[];
begin
    loop
        with undone as (
            update pgqueue.edge set outcome = null
            where edge.upstream = any(level) and edge.outcome is not null and edge.outcome <> 'succeeded'
            returning edge.downstream, edge.direct
        ),
        behind as materialized (
            select downstream as id, count(*)::integer as undone from undone where not direct group by downstream
        ),
        raised as (
            update pgqueue.barrier
            set open = barrier.open + behind.undone, failed = barrier.failed - behind.undone,
                state = case when barrier.state = 'failed' then null else barrier.state end,
                ended_at = case when barrier.state = 'failed' then null else barrier.ended_at end
            from behind
            where barrier.id = behind.id and barrier.id = any(array(select id from behind))
            returning barrier.id, barrier.state
        )
        select array_agg(distinct next) into nexts
        from (
            select downstream as next from undone where direct
            union all select id from raised where state is null
        ) as open;
        exit when nexts is null;
        perform from pgqueue.job where job.id = any(nexts) order by job.id for update;
        with again as (
            update pgqueue.job
            set status = null, completed_at = null, attempt = null, reason = null, error = null,
                -- A time that has passed would end it again at once.
                expires_at = case when job.expires_at > now() then job.expires_at end
            where job.id = any(nexts) and job.status = 'cancelled' and job.reason = 'upstream_failed'
            returning job.id, job.lane
        ),
        noted as (
            insert into pgqueue.action (job_id, action, attempt, reason, actor)
            select id, 'redriven', 0, 'upstream_redriven', coalesce(rearm.actor, session_user) from again order by id
        ),
        -- A job that returns to a lane brings it back.
        brought as (
            update pgqueue.lane set removed_at = null, idle_since = null
            where lane.removed_at is not null and lane.id = any(array(select lane from again))
        ),
        waiting as (
            insert into pgqueue.blocked (job_id, lane) select id, lane from again returning job_id
        )
        select array_agg(job_id) into blocked_again from waiting;
        level := coalesce(blocked_again, '{}')
                 || array(select barrier.id from pgqueue.barrier where barrier.id = any(nexts) and barrier.is_join);
        exit when level = '{}';
    end loop;
end
$$;

-- Whether a job that has ended is needed: something that has not ended waits for its result.
create function pgqueue.is_needed(id uuid) returns boolean language plpgsql stable
set search_path to pg_catalog, pg_temp as $$
begin
    return exists (
        with recursive behind (id) as (
            select edge.downstream from pgqueue.edge where edge.upstream = is_needed.id
            union
            select edge.downstream
            from behind
            cross join lateral (
                select downstream from pgqueue.edge where upstream = behind.id offset 0
            ) as edge
            where (select barrier.is_join from pgqueue.barrier where barrier.id = behind.id)
        )
        select from behind
        where (select job.status is null from pgqueue.job where job.id = behind.id));
end
$$;

-- Pause a workflow, or let it go on: of a paused one nothing becomes ready that is not. Returns the lanes that have new
-- ready jobs; null: there is no such workflow.
create function pgqueue.pause_workflow(id uuid, paused boolean) returns integer[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
begin
    perform from pgqueue.workflow where workflow.id = pause_workflow.id for update;
    if not found then
        return null;
    end if;
    update pgqueue.workflow
    set paused_at = case when paused then coalesce(workflow.paused_at, now()) end
    where workflow.id = pause_workflow.id;
    if paused then
        return '{}';
    end if;
    return pgqueue.to_ready(array(
        select blocked.job_id
        from pgqueue.blocked
        where blocked.job_id = any(array(
                  select job.id from pgqueue.job where job.workflow_id = pause_workflow.id and job.status is null))
          and coalesce(
              (select barrier.state = 'fired' from pgqueue.barrier where barrier.id = blocked.job_id),
              (select edge.outcome = 'succeeded' from pgqueue.edge
               where edge.downstream = blocked.job_id and edge.direct))));
end
$$;

-- Write a workflow: its jobs `ids` with arguments `documents` from the templates numbered `numbers`, those `fed` taking
-- inputs; barriers; edges from `ups` to `downs`; callbacks. All of it or nothing. Returns, as settle does, lanes with
-- new ready jobs, and notes. Runs as the owner, so it refuses whatever would touch jobs that are not of this workflow.
create function pgqueue.submit_workflow(
    workflow json, ids uuid[], documents json, numbers integer[], fed uuid[], templates json, barriers json,
    ups uuid[], downs uuid[], positions integer[], directs boolean[], callbacks json
) returns json language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
declare
    flaw text;
    new_id uuid := (workflow ->> 'id')::uuid;
    notes bigint[];
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
    if flaw is null and exists (
        select node.id from (
            select unnest(downs) as id
            union all select unnest(fed)
            union all select (workflow ->> 'root')::uuid
            union all select barrier.id from json_to_recordset(barriers) as barrier (id uuid, is_join boolean) where not barrier.is_join
            union all select callback.node_id from json_to_recordset(callbacks) as callback (node_id uuid)
        ) as node
        where node.id is null
           or node.id not in (
               select unnest(ids)
               union all select barrier.id from json_to_recordset(barriers) as barrier (id uuid))
    ) then
        flaw := 'a node that is written to is not of this workflow';
    end if;
    if flaw is null and exists (
        select from json_to_recordset(barriers) as barrier (id uuid, is_join boolean)
        where barrier.is_join
          and (barrier.id in (select unnest(ids)) or (select true from pgqueue.job where job.id = barrier.id))
    ) then
        flaw := 'a join has the id of a job';
    end if;
    if flaw is not null then
        raise exception 'pgqueue.submit_workflow: workflow %: %', new_id, flaw using errcode = 'invalid_parameter_value';
    end if;
    perform pgqueue.lane_for(lane.queue, lane.priority, lane.id)
    from (
        select distinct given.queue, given.priority, given.lane as id
        from json_to_recordset(templates) as given (queue text, priority smallint, lane integer)
        order by 1, 2
    ) as lane;

    insert into pgqueue.workflow (id, root, name, parent_job)
    values (new_id, (workflow ->> 'root')::uuid, workflow ->> 'name', (workflow ->> 'parent_job')::uuid);
    insert into pgqueue.barrier (
        id, workflow_id, is_join, needs, runs_anyway, fail_fast, total, open, state, ended_at)
    select given.id, new_id, given.is_join, given.needs, given.runs_anyway, given.fail_fast,
           coalesce(leading_to.total, 0), coalesce(leading_to.total, 0),
           -- The end of an empty group.
           case when leading_to.total is null then 'fired' end, case when leading_to.total is null then now() end
    from json_to_recordset(barriers) as given (
        id uuid, is_join boolean, needs integer, runs_anyway boolean, fail_fast boolean)
    left join (
        select down, count(*)::integer as total from unnest(downs) as down group by down
    ) as leading_to on leading_to.down = given.id;
    insert into pgqueue.edge (upstream, downstream, position, direct)
    select * from unnest(ups, downs, positions, directs);
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
        select given.id, given.arguments, template.*, given.id in (select unnest(downs)) as waits
        from rows from (unnest(ids), json_array_elements(documents), unnest(numbers)) as given (id, arguments, number)
        join template on template.number = given.number
    ),
    added as (
        insert into pgqueue.job (
            id, lane, task, arguments, expires_at, options, headers, tags, key, run_at, hooks, workflow_id)
        select node.id, node.lane, node.task, node.arguments, node.expires_at, node.options, node.headers, node.tags,
               node.key, coalesce(node.run_at, case when not node.waits then now() + node.delay end),
               nullif((node.id in (select unnest(ups)))::integer
                      | (node.id in (select unnest(fed)))::integer * 2
                      | (node.id in (select callback.node_id from json_to_recordset(callbacks) as callback (node_id uuid)))::integer * 8,
                      0),
               new_id
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
    insert into pgqueue.callback (
        node_id, number, on_end, takes_inputs, queue, priority, task, arguments, options, headers, tags, key)
    select given.node_id, given.number, given.on_end, given.takes_inputs, made.queue, made.priority, made.task,
           given.arguments::json, made.options::json, made.headers::json,
           case when made.tags is not null then array(select json_array_elements_text(made.tags::json)) end, made.key
    from json_to_recordset(callbacks) as given (
        node_id uuid, number integer, on_end text, takes_inputs boolean, template integer, arguments text)
    cross join lateral json_to_record(templates -> (given.template - 1)) as made (
        queue text, priority smallint, task text, options text, headers text, tags text, key text);
    -- Jobs that were there before are told of it after the commit: locked here, they could not end until then.
    with fresh as (
        insert into pgqueue.note (node_id, kind)
        select distinct given.down, 'written'
        from unnest(ups, downs) as given (up, down)
        where given.up not in (
            select unnest(ids) union all select barrier.id from json_to_recordset(barriers) as barrier (id uuid))
        union all
        select given.id, 'ended'
        from json_to_recordset(barriers) as given (id uuid, is_join boolean)
        where given.is_join and given.id not in (select unnest(downs))
        returning id
    )
    select array_agg(id) into notes from fresh;
    return json_build_object('notes', coalesce(notes, '{}'), 'lanes', coalesce(lanes, '{}'));
end
$$;

-- Remove what is kept about jobs that are gone or going, as before; also what workflows keep about them, and about joins
-- that nothing leads to any more.
create or replace function pgqueue.forget(ids uuid[]) returns void language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    kept_in text;
    gone uuid[] := ids;
    nexts uuid[];
begin
    foreach kept_in in array pgqueue.tables_about_jobs() loop
        execute format('delete from pgqueue.%I where job_id = any($1)', kept_in) using ids;
    end loop;
    while gone <> '{}' loop
        with cut as (
            delete from pgqueue.edge where upstream = any(gone) returning downstream
        )
        select array_agg(distinct downstream) into nexts from cut;
        delete from pgqueue.barrier where id = any(gone);
        delete from pgqueue.callback where node_id = any(gone);
        delete from pgqueue.workflow where root = any(gone);
        gone := array(
            select barrier.id from pgqueue.barrier
            where barrier.id = any(nexts) and barrier.is_join
              and (select true from pgqueue.edge where edge.downstream = barrier.id limit 1) is null);
    end loop;
end
$$;

-- ... of all jobs in a range of ids.
create or replace function pgqueue.forget_range(low uuid, high uuid) returns void language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    kept_in text;
begin
    foreach kept_in in array pgqueue.tables_about_jobs() loop
        execute format('delete from pgqueue.%I where job_id >= $1 and job_id < $2', kept_in) using low, high;
    end loop;
    delete from pgqueue.edge where upstream >= low and upstream < high;
    delete from pgqueue.barrier where id >= low and id < high;
    delete from pgqueue.callback where node_id >= low and node_id < high;
    delete from pgqueue.workflow where root >= low and root < high;
end
$$;

-- Functions of which a line changes: a tail that settles, and workflows locked before records. What they are now is in
-- sql/schema.sql.
do $$
declare
    change text[];
    definition text;
begin
    foreach change slice 1 in array array[
        ['transition', E'    first_start timestamptz;\n', E'    first_start timestamptz;\n    hooked integer;\n'],
        ['transition',
         E'            where job.id = transition.id;\n    end case;',
         E'            where job.id = transition.id\n            returning job.hooks into hooked;\n    end case;'],
        ['transition',
         E'coalesce(transition.reason, after::text));\n    end if;\n',
         E'coalesce(transition.reason, after::text));\n    end if;\n'
         '    if hooked is not null then\n        perform pgqueue.settle(array[transition.id], hooked);\n    end if;\n'],
        ['cancel', E'    answer text;\n', E'    answer text;\n    hooked integer;\n'],
        ['cancel',
         E'            where job.id = cancel.id;\n',
         E'            where job.id = cancel.id\n            returning job.hooks into hooked;\n'],
        ['cancel',
         E'    insert into pgqueue.action',
         E'    if hooked is not null then\n        perform pgqueue.settle(array[cancel.id], hooked);\n    end if;\n'
         '    insert into pgqueue.action'],
        ['redrive',
         E'begin\n    perform pgqueue.lock_failed',
         E'begin\n    perform pgqueue.hold_workflows(array[redrive.id]);\n    perform pgqueue.lock_failed'],
        ['requeue',
         E'begin\n    select array_agg(locked.id)',
         E'begin\n    perform pgqueue.hold_workflows(ids);\n    select array_agg(locked.id)'],
        ['carry_redrive',
         E'    -- The records first,',
         E'    perform pgqueue.hold_workflows(picked);\n    -- Then the records,'],
        ['reopen', E'begin\n', E'begin\n    perform pgqueue.rearm(ids, reopen.actor);\n']
    ] loop
        definition := pg_get_functiondef(('pgqueue.' || change[1])::regproc);
        if position(change[2] in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it', change[1];
        end if;
        execute overlay(definition placing change[3] from position(change[2] in definition) for length(change[2]));
    end loop;
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
        where pronamespace = 'pgqueue'::regnamespace and prosecdef and proname = 'submit_workflow'
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
