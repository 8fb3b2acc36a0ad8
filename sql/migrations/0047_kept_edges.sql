-- 0047 kept edges: what waits for a job that is removed before it was counted finds out, and does not wait for ever.
-- works with: 1
-- Workers may keep running.

-- Remove what is kept about jobs that are gone or going, as before. What waits for one of them and has not counted it
-- keeps its edge: whoever attends to it next, or sweeps, finds that there is no such job. The edge goes with what waits.
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
    delete from pgqueue.edge
    where downstream = any(ids)
      and (select true from pgqueue.job where job.id = edge.upstream) is null
      and (select true from pgqueue.barrier where barrier.id = edge.upstream) is null;
    while gone <> '{}' loop
        with cut as (
            delete from pgqueue.edge
            where upstream = any(gone)
              and not (edge.outcome is null and exists (select from pgqueue.blocked where blocked.job_id = edge.downstream))
            returning downstream
        )
        select array_agg(distinct downstream) into nexts from cut;
        delete from pgqueue.barrier where id = any(gone);
        delete from pgqueue.callback where node_id = any(gone);
        with removed as (
            delete from pgqueue.workflow where root = any(gone) returning id
        )
        delete from pgqueue.action where job_id = any(array(select id from removed));
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
    delete from pgqueue.edge
    where downstream >= low and downstream < high
      and (select true from pgqueue.job where job.id = edge.upstream) is null
      and (select true from pgqueue.barrier where barrier.id = edge.upstream) is null;
    delete from pgqueue.edge
    where upstream >= low and upstream < high
      and not (edge.outcome is null and exists (select from pgqueue.blocked where blocked.job_id = edge.downstream));
    delete from pgqueue.barrier where id >= low and id < high;
    delete from pgqueue.callback where node_id >= low and node_id < high;
    delete from pgqueue.workflow where root >= low and root < high;
end
$$;
