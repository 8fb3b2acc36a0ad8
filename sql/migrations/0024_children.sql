-- 0024 children: the workflows of a job are cancelled with it, and a wait that is over stays held in a paused workflow.
-- works with: 1
-- Workers may keep running: the workflows that their jobs start go on when these are cancelled, as before.

alter table pgqueue.blocked add column is_due boolean not null default false;   -- its wait is over; its workflow is paused
alter table pgqueue.workflow add column ends_with_parent boolean not null default false;  -- cancelled when parent_job is
create index workflow_parent_job on pgqueue.workflow (parent_job) where ends_with_parent;
alter table pgqueue.note drop constraint note_kind_check;
-- 'parent': a job whose workflows are to be cancelled; 'orphan': one of these workflows.
alter table pgqueue.note add constraint note_kind_check check (kind in ('ended', 'written', 'doomed', 'parent', 'orphan'));

-- Cancel what jobs `parents` have started, if they were cancelled or have expired and are not live again: a note for each
-- workflow. And up to 500 live jobs of `workflows`. What others hold is left for the next time, by a note that nobody is
-- told of. Returns the notes that follow.
--
-- The step that names a workflow is forgotten, so that its parent, once it is redriven, starts another one.
create function pgqueue.abandon(parents uuid[], workflows uuid[]) returns bigint[] language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    held uuid[];
    children uuid[] := '{}';
    chosen uuid[] := '{}';
    notes bigint[];
begin
    if parents is not null then
        held := array(select job.id from pgqueue.job where job.id = any(parents) order by job.id for update skip locked);
        children := array(
            select workflow.id from pgqueue.workflow
            where workflow.ends_with_parent
              and workflow.parent_job = any(array(
                  select job.id from pgqueue.job where job.id = any(held) and job.status in ('cancelled', 'expired')))
              and exists (select from pgqueue.job as member where member.workflow_id = workflow.id and member.status is null));
        delete from pgqueue.step
        using pgqueue.workflow
        where workflow.id = any(children)
          and step.job_id = workflow.parent_job
          and step.result::text = format('{"workflow_id": "%s", "root": "%s"}', workflow.id, workflow.root);
        insert into pgqueue.note (node_id, kind)
        select job.id, 'parent' from pgqueue.job where job.id = any(parents) and job.id <> all(held);
    end if;
    if workflows is not null then
        chosen := array(
            select job.id from pgqueue.job
            where job.workflow_id = any(workflows) and job.status is null
              and not exists (select from pgqueue.cancel_request where cancel_request.job_id = job.id)
            order by job.id limit 500 for update skip locked);
        perform pgqueue.cancel(id, 'parent_ended', 'pgqueue') from unnest(chosen) as id;
    end if;
    with fresh as (
        insert into pgqueue.note (node_id, kind)
        select id, 'orphan' from unnest(children) as child (id)
        union all
        select given.id, 'orphan'
        from unnest(workflows) as given (id)
        where exists (
            select from pgqueue.job
            where job.workflow_id = given.id and job.status is null
              and not exists (select from pgqueue.cancel_request where cancel_request.job_id = job.id))
        returning id
    )
    select array_agg(id) into notes from fresh;
    return case when children <> '{}' or chosen <> '{}' then notes end;
end
$$;

-- Replace each of `places` in the definition of a function.
create function pgqueue.patch(name text, places text[], texts text[]) returns void language plpgsql as $$
declare
    definition text := pg_get_functiondef(name::regproc);
begin
    for number in 1 .. cardinality(places) loop
        if position(places[number] in definition) = 0 then
            raise exception 'function % is not as the migrations before this left it', name;
        end if;
        definition := replace(definition, places[number], texts[number]);
    end loop;
    execute definition;
end
$$;

-- A job that has started workflows was cancelled, or has expired.
select pgqueue.patch('pgqueue.settle', array[
    '    return json_build_object(''notes'''], array[
    E'    if hooks & 16 > 0 then\n'
    '        with fresh as (\n'
    '            insert into pgqueue.note (node_id, kind)\n'
    '            select job.id, ''parent'' from pgqueue.job\n'
    '            where job.id = any(ids) and job.hooks & 16 > 0 and job.status in (''cancelled'', ''expired'')\n'
    '            returning id\n'
    '        )\n'
    '        select notes || array_agg(id) into notes from fresh;\n'
    '    end if;\n'
    '    return json_build_object(''notes''']);

select pgqueue.patch('pgqueue.attend', array[
    E'    doomed uuid[];\n',
    E'filter (where taking.kind = ''doomed'')\n',
    E'into mine, nodes, written, doomed\n',
    'select array_agg(id) into more from fresh;'], array[
    E'    doomed uuid[];\n    parents uuid[];\n    orphans uuid[];\n',
    E'filter (where taking.kind = ''doomed''),\n'
    '           array_agg(distinct taking.node_id) filter (where taking.kind = ''parent''),\n'
    '           array_agg(distinct taking.node_id) filter (where taking.kind = ''orphan'')\n',
    E'into mine, nodes, written, doomed, parents, orphans\n',
    E'select array_agg(id) into more from fresh;\n'
    '    if parents is not null or orphans is not null then\n'
    '        more := more || pgqueue.abandon(parents, orphans);\n'
    '    end if;']);

-- In a paused workflow, a wait that is over as it begins, or that an event ends, is left for those who wake jobs.
select pgqueue.patch('pgqueue.suspend', array[
    E'        if given.until <= clock_timestamp()\n',
    E'            insert into pgqueue.ready (job_id, lane'], array[
    E'        if given.until <= clock_timestamp()\n',
    E'            if exists (\n'
    '                select from pgqueue.workflow\n'
    '                where workflow.id = (select job.workflow_id from pgqueue.job where job.id = held.job_id)\n'
    '                  and workflow.paused_at is not null)\n'
    '            then\n'
    '                insert into pgqueue.blocked (job_id, lane, attempt, losses, position, wake_at)\n'
    '                values (held.job_id, held.lane, held.attempt - 1, held.losses, held.position, clock_timestamp());\n'
    '                continue;\n'
    '            end if;\n'
    '            insert into pgqueue.ready (job_id, lane']);
select pgqueue.patch('pgqueue.signal', array[
    'if answer = ''sent'' and not defer then'], array[
    E'if answer = ''sent'' and not defer and exists (\n'
    '        select from pgqueue.workflow\n'
    '        where workflow.id = (select record.workflow_id from pgqueue.job as record where record.id = signal.job)\n'
    '          and workflow.paused_at is not null)\n'
    '    then\n'
    '        update pgqueue.event set is_new = true\n'
    '        where event.id = (\n'
    '            select sent.id from pgqueue.event as sent\n'
    '            where sent.job_id = signal.job and sent.name = signal.name and not sent.is_taken order by sent.id desc limit 1);\n'
    '    elsif answer = ''sent'' and not defer then']);
select pgqueue.patch('pgqueue.pause_workflow', array[
    '          and coalesce(',
    'and edge.direct))));'], array[
    E'          -- A wait that goes on, behind one that is over, is not over.\n'
    '          and (blocked.is_due or (blocked.wake_at is null and blocked.waits is null and coalesce(',
    'and edge.direct))))));']);
drop function pgqueue.patch(text, text[], text[]);

-- Make up to `most` jobs except `without` pending whose time has come, and those whose events came in transactions of
-- others, as before; those of paused workflows are marked, and go on when these do. Returns those that go on.
create or replace function pgqueue.wake(most integer, without uuid[]) returns table (id uuid, lane integer, attempt integer)
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    news bigint[] := array(
        select event.id from pgqueue.event
        where event.is_new and event.job_id <> all(without)
        order by event.id limit most for update skip locked);
    called uuid[];
    due uuid[];
    held uuid[];
    marked uuid[];
begin
    if news <> '{}' then
        called := array(select distinct event.job_id from pgqueue.event where event.id = any(news));
        -- Whoever has one of them wait now is waited for, or sees the event.
        perform from pgqueue.job where job.id = any(called) order by job.id for update;
        due := array(
            select blocked.job_id from pgqueue.blocked
            where blocked.job_id = any(called)
              and (select true from pgqueue.event
                   where event.job_id = blocked.job_id and event.name = blocked.waits and not event.is_taken limit 1));
    end if;
    due := due || array(
        select blocked.job_id from pgqueue.blocked
        where blocked.wake_at <= now() and blocked.job_id <> all(without)
        order by blocked.wake_at limit most for update skip locked);
    held := array(
        select job.id from pgqueue.job
        where job.id = any(due)
          and (select workflow.paused_at from pgqueue.workflow where workflow.id = job.workflow_id) is not null);
    if held <> '{}' then
        -- Whoever lets one of these workflows go on just now has looked for marks already: that is for the next time.
        with sure as materialized (
            select workflow.id from pgqueue.workflow
            where workflow.paused_at is not null
              and workflow.id = any(array(select job.workflow_id from pgqueue.job where job.id = any(held)))
            for share skip locked
        )
        select array_agg(job.id) into marked
        from pgqueue.job
        where job.id = any(held) and job.workflow_id in (select sure.id from sure);
        update pgqueue.blocked set is_due = true, wake_at = null, waits = null where job_id = any(marked);
        due := array(select each.job from unnest(due) as each (job) where each.job <> all(held));
    end if;
    update pgqueue.event set is_new = false
    where event.id = any(news)
      and event.job_id <> all(array(select each.job from unnest(held) as each (job) where each.job <> all(coalesce(marked, '{}'))));
    return query
    with moved as (
        delete from pgqueue.blocked as waiting where waiting.job_id = any(due) returning waiting.*
    ),
    queued as (
        insert into pgqueue.ready (job_id, lane, attempt, losses, position)
        select moved.job_id, moved.lane, moved.attempt, moved.losses, coalesce(moved.position, nextval('pgqueue.position'))
        from moved order by moved.job_id
        on conflict do nothing
    )
    select moved.job_id, moved.lane, moved.attempt from moved;
end
$$;
