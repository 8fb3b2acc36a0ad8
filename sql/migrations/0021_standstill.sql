-- 0021 standstill: open workflows are found by an index, those that stand still too; pauses have a history.
-- works with: 1
-- Workers may keep running: those of before do not look for workflows that have ended, and this one's do it for them.

alter table pgqueue.workflow
    add column outcome pgqueue.job_status,        -- of its root, once a worker has seen its end; null: it is open
    add column stalled_at timestamptz;            -- nothing in it moves since then; null: something does, or it is not known

-- How many workflows have ended, each time that one did. Only the worker whose turn it is writes it.
create table pgqueue.workflow_tally (
    status pgqueue.job_status primary key,
    ended  bigint not null default 0
);

-- As what a workflow with this root has ended; null: it has not. Without its root it can only be over.
create function pgqueue.outcome_of(root uuid) returns pgqueue.job_status language plpgsql stable
set search_path to pg_catalog, pg_temp as $$
declare
    ending text;
    stands pgqueue.job_status;
begin
    select barrier.state into ending from pgqueue.barrier where barrier.id = outcome_of.root and barrier.is_join;
    if found then
        return case ending when 'fired' then 'succeeded' when 'failed' then 'failed' end;
    end if;
    select job.status into stands from pgqueue.job where job.id = outcome_of.root;
    return case when found then stands else 'cancelled' end;
end
$$;

update pgqueue.workflow set outcome = pgqueue.outcome_of(workflow.root)
where pgqueue.outcome_of(workflow.root) is not null;

create index workflow_open on pgqueue.workflow (id) include (created_at, paused_at) where outcome is null;
create index workflow_stalled on pgqueue.workflow (stalled_at) where stalled_at is not null;
create index barrier_waiting on pgqueue.barrier (id) where state is null and not is_join;

-- Whether nothing in an open workflow moves, or will by itself: none of its jobs is ready, running or scheduled, and
-- those that are blocked have no time at which they go on, and wait for nothing outside of it that has not ended.
-- Offset 0: each is looked up by its key; without it the planner may read a whole table into a hash.
create function pgqueue.stands_still(workflow uuid) returns boolean language plpgsql stable
set search_path to pg_catalog, pg_temp as $$
begin
    return not exists (
        select from pgqueue.job as member
        where member.workflow_id = stands_still.workflow
          and member.status is null
          and (exists (select from pgqueue.ready where ready.job_id = member.id offset 0)
               or exists (select from pgqueue.running where running.job_id = member.id offset 0)
               or exists (select from pgqueue.scheduled where scheduled.job_id = member.id offset 0)
               or exists (
                   select from pgqueue.blocked
                   where blocked.job_id = member.id
                     and (blocked.wake_at is not null or blocked.waits_for is not null)
                   offset 0)
               or exists (
                   select from pgqueue.edge
                   where edge.downstream = member.id and edge.outcome is null
                     and (exists (
                              select from pgqueue.job as other
                              where other.id = edge.upstream and other.status is null
                                and other.workflow_id is distinct from stands_still.workflow
                              offset 0)
                          or exists (
                              select from pgqueue.barrier
                              where barrier.id = edge.upstream and barrier.is_join and barrier.state is null
                                and barrier.workflow_id <> stands_still.workflow
                              offset 0))
                   offset 0)));
end
$$;

-- Look at the next `most` open workflows behind id `after`: note which have ended, and which stand still. Waits for
-- nobody. Returns how many were looked at, and the last of them.
create function pgqueue.watch_workflows(after uuid, most integer, out looked integer, out reached uuid)
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    seen uuid[] := array(
        select workflow.id from pgqueue.workflow
        where workflow.outcome is null and workflow.id > watch_workflows.after
        order by workflow.id limit watch_workflows.most);
    ended uuid[];
    turned uuid[];
begin
    looked := cardinality(seen);
    reached := seen[looked];
    if looked = 0 then
        return;
    end if;
    ended := array(
        select workflow.id from pgqueue.workflow
        where workflow.id = any(seen) and pgqueue.outcome_of(workflow.root) is not null);
    -- Who redrives a job holds its workflow: what was read before it was locked may not be true any more.
    ended := array(
        select workflow.id from pgqueue.workflow
        where workflow.id = any(ended) and workflow.outcome is null
        order by workflow.id for update skip locked);
    with over as (
        update pgqueue.workflow set outcome = pgqueue.outcome_of(workflow.root), stalled_at = null
        where workflow.id = any(ended) and pgqueue.outcome_of(workflow.root) is not null
        returning workflow.outcome
    )
    insert into pgqueue.workflow_tally (status, ended)
    select over.outcome, count(*) from over group by over.outcome order by over.outcome
    on conflict (status) do update set ended = workflow_tally.ended + excluded.ended;
    turned := array(
        select workflow.id from pgqueue.workflow
        where workflow.id = any(seen) and workflow.outcome is null
          and (workflow.stalled_at is not null)
              is distinct from (workflow.paused_at is null and pgqueue.stands_still(workflow.id)));
    update pgqueue.workflow set stalled_at = case when workflow.stalled_at is null then now() end
    where workflow.id = any(array(
        select locked.id from pgqueue.workflow as locked
        where locked.id = any(turned) and locked.outcome is null
        order by locked.id for update skip locked));
end
$$;

-- A workflow whose last job, or group, is made to go on is open again.
do $$
declare
    definition text := pg_get_functiondef('pgqueue.rearm'::regproc);
    place constant text := E'    loop\n        with undone as (';
begin
    if position(place in definition) = 0 then
        raise exception 'function pgqueue.rearm is not as the migrations before this left it';
    end if;
    execute replace(definition, place,
        E'    loop\n'
        '        update pgqueue.workflow set outcome = null where workflow.root = any(level) and workflow.outcome is not null;\n'
        '        with undone as (');
end
$$;

-- With the last job of a workflow goes what was done to it.
do $$
declare
    definition text := pg_get_functiondef('pgqueue.forget'::regproc);
    place constant text := 'delete from pgqueue.workflow where root = any(gone);';
begin
    if position(place in definition) = 0 then
        raise exception 'function pgqueue.forget is not as the migrations before this left it';
    end if;
    execute replace(definition, place,
        E'with removed as (\n'
        '            delete from pgqueue.workflow where root = any(gone) returning id\n'
        '        )\n'
        '        delete from pgqueue.action where job_id = any(array(select id from removed));');
end
$$;

-- Pause a workflow, or let it go on: of a paused one nothing becomes ready that is not. What was done, by whom and why,
-- is kept under the workflow's id. Returns the lanes that have new ready jobs; null: there is no such workflow.
drop function pgqueue.pause_workflow(uuid, boolean);
create function pgqueue.pause_workflow(id uuid, paused boolean, reason text default null, actor text default null)
returns integer[] language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    since timestamptz;
begin
    perform pgqueue.check_text('pgqueue.pause_workflow: actor', pause_workflow.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.pause_workflow: reason', pause_workflow.reason, 1000, 0);
    select workflow.paused_at into since from pgqueue.workflow where workflow.id = pause_workflow.id for update;
    if not found then
        return null;
    end if;
    if paused is distinct from (since is not null) then
        insert into pgqueue.action (job_id, action, attempt, reason, actor)
        values (pause_workflow.id, case when paused then 'paused' else 'resumed' end, 0,
                pause_workflow.reason, coalesce(pause_workflow.actor, session_user));
    end if;
    update pgqueue.workflow
    set paused_at = case when paused then coalesce(workflow.paused_at, now()) end,
        stalled_at = case when not paused then workflow.stalled_at end
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
              (select bool_or(edge.outcome = 'succeeded') from pgqueue.edge
               where edge.downstream = blocked.job_id and edge.direct))));
end
$$;
