-- 0027 adding: a running member of a group adds others to it.
-- works with: 1
-- Workers may keep running.

-- Lock the workflows around job `member`, and its record: whoever cancels the job now is waited for, or finds what it adds.
create function pgqueue.hold_member(member uuid) returns void language plpgsql
set search_path to pg_catalog, pg_temp as $$
begin
    perform pgqueue.hold_workflows(array[member]);
    perform from pgqueue.job where job.id = member for update;
end
$$;

-- Have the group of job `member`, which is held and runs, take the members of workflow `added`, a group that was written
-- in this transaction: they come last, in their order. Returns null, or why not, with nothing changed.
--
-- The member has not ended, so what waits for the group is still open, or does not wait for this member any more.
create function pgqueue.extend(member uuid, added uuid) returns text language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    own uuid := (select job.workflow_id from pgqueue.job where job.id = member);
    paused boolean := (select workflow.paused_at is not null from pgqueue.workflow where workflow.id = own);
    ending uuid := (select workflow.root from pgqueue.workflow where workflow.id = added);
    groups uuid[] := array(
        select barrier.id
        from pgqueue.edge join pgqueue.barrier on barrier.id = edge.downstream
        where edge.upstream = member and not edge.direct and barrier.workflow_id = own
          -- A wait of the job that has started this workflow is no group.
          and not exists (
              select from pgqueue.edge as wait
              where wait.upstream = barrier.id and wait.direct and wait.position = -1));
    last integer;
    more integer;
begin
    if exists (select from pgqueue.cancel_request where cancel_request.job_id = member) then
        return 'it is being cancelled';
    elsif cardinality(groups) = 0 then
        return 'it is no member of a group';
    elsif cardinality(groups) > 1 then
        return 'several nodes wait for it';
    elsif (select barrier.state is not null from pgqueue.barrier where barrier.id = groups[1]) then
        return 'what its group comes to is decided already';
    end if;
    last := (select max(edge.position) from pgqueue.edge where edge.downstream = groups[1]);
    update pgqueue.edge
    set downstream = groups[1],
        -- Behind a position of -1, nothing is read.
        position = case last when -1 then -1 else last + 1 + edge.position end
    where edge.downstream = ending;
    get diagnostics more = row_count;
    update pgqueue.barrier set total = barrier.total + more, open = barrier.open + more where barrier.id = groups[1];
    delete from pgqueue.barrier where barrier.id = ending;
    delete from pgqueue.workflow where workflow.id = added;
    update pgqueue.barrier set workflow_id = own where barrier.workflow_id = added;
    if paused then
        with held as (
            delete from pgqueue.ready
            where ready.job_id = any(array(select job.id from pgqueue.job where job.workflow_id = added))
            returning ready.*
        )
        insert into pgqueue.blocked (job_id, lane, attempt, losses, position, is_due)
        select held.job_id, held.lane, held.attempt, held.losses, held.position, true from held;
    end if;
    update pgqueue.job set workflow_id = own where job.workflow_id = added;
    return null;
end
$$;
