-- 0019 restart: durable functions that begin anew, from the start or from a step, and copies that do.
-- works with: 1
-- Workers may keep running: they have no job begin anew.

-- Have jobs that run under lease `holder` begin anew with other arguments, and without what they have stored. Their
-- attempts, retries and losses count from 0. Events that they have not taken stay. Returns those that this lease still
-- held, and their lanes.
create function pgqueue.restart(holder uuid, ids uuid[], documents json, out restarted uuid[], out lanes integer[])
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    given record;
    held_lane integer;
begin
    restarted := '{}';
    lanes := '{}';
    perform from pgqueue.job where job.id = any(ids) order by job.id for update;
    for given in select * from rows from (unnest(ids), json_array_elements(documents)) as call (id, arguments) loop
        delete from pgqueue.running
        where running.job_id = given.id and running.lease_id = holder
        returning running.lane into held_lane;
        continue when not found;
        delete from pgqueue.step where step.job_id = given.id;
        update pgqueue.job set arguments = given.arguments, started_at = null, expires_at = null where job.id = given.id;
        insert into pgqueue.ready (job_id, lane) values (given.id, held_lane);
        restarted := restarted || given.id;
        lanes := lanes || held_lane;
    end loop;
end
$$;

-- Have a job that has ended forget step `name` and all that were stored after it. Returns how many; 0: there is no such
-- step; null: the job has not ended, or there is none.
create function pgqueue.forget_steps(job uuid, name text) returns integer language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    forgotten integer;
begin
    perform from pgqueue.job as record where record.id = forget_steps.job and record.status is not null for update;
    if not found then
        return null;
    end if;
    delete from pgqueue.step
    where step.job_id = forget_steps.job
      and step.recorded_at >= (
          select first.recorded_at from pgqueue.step as first
          where first.job_id = forget_steps.job and first.name = forget_steps.name);
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;

-- Make a new job of one that has ended, with the steps that it had stored before step `name`. Returns its lane; 0: there
-- is no such step; null: the job has not ended, or there is none.
create function pgqueue.fork(job uuid, name text, new_id uuid) returns integer language plpgsql
set search_path to pg_catalog, pg_temp as $$
declare
    source pgqueue.job;
    since timestamptz;
begin
    select * into source from pgqueue.job as record
    where record.id = fork.job and record.status is not null for share;
    if not found then
        return null;
    end if;
    select step.recorded_at into since from pgqueue.step where step.job_id = fork.job and step.name = fork.name;
    if not found then
        return 0;
    end if;
    update pgqueue.lane set removed_at = null, idle_since = null where lane.removed_at is not null and lane.id = source.lane;
    insert into pgqueue.job (id, lane, task, arguments, options, headers, tags, key, hooks)
    values (new_id, source.lane, source.task, source.arguments, source.options, source.headers, source.tags, source.key,
            nullif(source.hooks & 2, 0));
    insert into pgqueue.step (job_id, name, result, recorded_at)
    select new_id, step.name, step.result, step.recorded_at
    from pgqueue.step where step.job_id = fork.job and step.recorded_at < since;
    -- What it takes from the jobs before it.
    insert into pgqueue.edge (upstream, downstream, position, direct, outcome)
    select edge.upstream, new_id, edge.position, edge.direct, edge.outcome
    from pgqueue.edge where edge.downstream = fork.job and edge.position >= 0 and source.hooks & 2 > 0;
    insert into pgqueue.ready (job_id, lane) values (new_id, source.lane);
    return source.lane;
end
$$;
