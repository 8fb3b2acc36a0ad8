-- 0055 edit: a job that waits gets another queue, priority, run time or other arguments.
-- works with: 1
-- Workers may keep running.

-- Change a waiting job. What is null stays as it is. The caller validates the arguments. Raises for a job that is running
-- or has ended (restrict_violation), for what its limits, its order or the jobs before it have settled
-- (object_not_in_prerequisite_state), and for an unknown id.
create function pgqueue.edit(
    id uuid, queue text default null, priority integer default null, run_at timestamptz default null,
    arguments json default null, reason text default null, actor text default null
) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    this record;
    place record;
    moves boolean;
    to_lane integer;
    changed text[] := '{}';
begin
    perform pgqueue.check_text('pgqueue.edit: queue', edit.queue, 255, 1);
    perform pgqueue.check_text('pgqueue.edit: actor', edit.actor, 1000, 0);
    perform pgqueue.check_text('pgqueue.edit: reason', edit.reason, 1000, 0);
    if edit.priority not between -32768 and 32767 then
        raise exception 'pgqueue.edit: priority must be from -32768 to 32767' using errcode = 'numeric_value_out_of_range';
    end if;
    -- Under its lock it stays where it is, but for a claim, a promotion and a gate that lets it through.
    select job.lane, job.gates, job.turn, job.hooks, lane.queue, lane.priority into this
    from pgqueue.job join pgqueue.lane on lane.id = job.lane
    where job.id = edit.id for update of job;
    if not found then
        raise exception 'there is no job %', edit.id using errcode = 'no_data_found';
    end if;
    moves := edit.queue is not null and edit.queue <> this.queue;
    loop
        select ready.job_id, 'ready' as standing, ready.lane, ready.attempt, ready.losses into place
        from pgqueue.ready where ready.job_id = edit.id for update;
        exit when found;
        select scheduled.job_id, 'scheduled' as standing, scheduled.lane, scheduled.attempt, scheduled.losses into place
        from pgqueue.scheduled where scheduled.job_id = edit.id for update;
        exit when found;
        select blocked.job_id, 'blocked' as standing, blocked.lane, blocked.attempt, blocked.losses into place
        from pgqueue.blocked where blocked.job_id = edit.id for update;
        exit when found;
        -- Prefetched: its worker has not started it, and finds it gone when it wants to.
        select running.job_id, 'prefetched' as standing, running.lane, running.attempt, running.losses into place
        from pgqueue.running where running.job_id = edit.id and running.started_at is null for update;
        exit when found;
        if coalesce(pgqueue.status_of(edit.id), 'failed') not in ('pending', 'scheduled', 'blocked') then
            raise exception 'job % is %: only a job that waits can be edited', edit.id, pgqueue.status_of(edit.id)
                using errcode = 'restrict_violation';
        end if;
    end loop;
    if (moves or edit.arguments is not null) and (this.gates is not null or this.turn is not null) then
        raise exception 'job % stands behind a limit or in an order, which come from its queue and its arguments', edit.id
            using errcode = 'object_not_in_prerequisite_state';
    elsif edit.arguments is not null and this.hooks & 2 > 0 then
        raise exception 'job % takes an argument from the results of the jobs before it', edit.id
            using errcode = 'object_not_in_prerequisite_state';
    elsif edit.run_at is not null and place.standing <> 'scheduled' and (this.gates is not null or this.turn is not null) then
        raise exception 'job % has been let through by a limit, or stands in an order', edit.id
            using errcode = 'object_not_in_prerequisite_state';
    elsif edit.run_at is not null and place.standing = 'blocked' then
        raise exception 'job % waits for other jobs, and starts when these have ended', edit.id
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    if moves then
        to_lane := pgqueue.lane_of(edit.queue, coalesce(edit.priority, this.priority)::smallint);
        changed := changed || format('queue from %s to %s', this.queue, edit.queue);
    elsif edit.priority is not null then
        to_lane := pgqueue.lane_like(place.lane, edit.priority);
    end if;
    if edit.priority <> this.priority then
        changed := changed || format('priority from %s to %s', this.priority, edit.priority);
    end if;
    to_lane := coalesce(to_lane, place.lane);
    if edit.run_at is not null and place.standing <> 'scheduled' then
        delete from pgqueue.ready where job_id = edit.id;
        delete from pgqueue.running where job_id = edit.id and started_at is null;
        insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
        values (edit.id, edit.run_at, to_lane, place.attempt, place.losses);
    else
        update pgqueue.ready set lane = to_lane where job_id = edit.id and lane <> to_lane;
        update pgqueue.blocked set lane = to_lane where job_id = edit.id and lane <> to_lane;
        update pgqueue.running set lane = to_lane where job_id = edit.id and started_at is null and lane <> to_lane;
        update pgqueue.scheduled set lane = to_lane, scheduled_at = coalesce(edit.run_at, scheduled_at)
        where job_id = edit.id;
        -- One that its worker has prefetched was read with what it had then.
        if place.standing = 'prefetched' and (moves or edit.arguments is not null) then
            delete from pgqueue.running where job_id = edit.id and started_at is null;
            insert into pgqueue.ready (job_id, lane, attempt, losses) values (edit.id, to_lane, place.attempt, place.losses);
        end if;
    end if;
    if edit.run_at is not null then
        changed := changed || format('run time to %s', to_char(edit.run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'));
    end if;
    if edit.arguments is not null then
        changed := changed || 'arguments'::text;
    end if;
    update pgqueue.job
    set lane = case when moves then to_lane
                    when edit.priority is not null then pgqueue.lane_like(lane, edit.priority) else lane end,
        run_at = coalesce(edit.run_at, job.run_at), arguments = coalesce(edit.arguments, job.arguments)
    where job.id = edit.id;
    insert into pgqueue.note (node_id, kind, lane, low)
    select blocked.gate, 'gate', blocked.lane, blocked.turn from pgqueue.blocked
    where blocked.job_id = edit.id and blocked.gate is not null;
    insert into pgqueue.action (job_id, action, attempt, reason, actor)
    values (edit.id, 'edited', place.attempt,
            left(concat_ws(': ', nullif(array_to_string(changed, ', '), ''), edit.reason), 1000),
            coalesce(edit.actor, session_user));
    perform pg_notify('pgqueue', 'ready ' || to_lane) where pg_notification_queue_usage() < 0.9::float8;
end
$$;
