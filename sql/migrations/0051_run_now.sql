-- 0051 run now: a job that is scheduled starts before its time.
-- works with: 1
-- Workers may keep running.

-- Make a scheduled job pending, be it for its first start or for a retry. True: it was scheduled; false: it is pending or
-- running already. Raises for a job that is blocked or has ended, and for an unknown id.
create function pgqueue.run_now(id uuid, reason text default null, actor text default null) returns boolean
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    hooked integer;
    gone record;
begin
    perform pgqueue.check_text('pgqueue.run_now: actor', run_now.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.run_now: reason', run_now.reason, 1000, 0);
    select job.hooks into hooked from pgqueue.job where job.id = run_now.id for update;
    if not found then
        raise exception 'there is no job %', run_now.id using errcode = 'no_data_found';
    end if;
    delete from pgqueue.scheduled where job_id = run_now.id
        returning scheduled.lane, scheduled.attempt, scheduled.losses into gone;
    if not found then
        if pgqueue.status_of(run_now.id) in ('pending', 'running') then
            return false;
        end if;
        raise exception 'job % is %: only a scheduled job can be run now', run_now.id, pgqueue.status_of(run_now.id)
            using errcode = 'restrict_violation';
    end if;
    insert into pgqueue.ready (job_id, lane, attempt, losses) values (run_now.id, gone.lane, gone.attempt, gone.losses);
    if hooked & 4 > 0 then
        perform pgqueue.gate_in(array[run_now.id]);
    end if;
    insert into pgqueue.action (job_id, action, attempt, reason, actor)
    values (run_now.id, 'run_now', gone.attempt, run_now.reason, coalesce(run_now.actor, session_user));
    perform pg_notify('pgqueue', case when hooked & 4 > 0 then 'attend' else 'ready ' || gone.lane end)
    where pg_notification_queue_usage() < 0.9::float8;
    return true;
end
$$;
