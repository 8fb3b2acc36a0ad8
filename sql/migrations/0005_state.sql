-- 0005 state: pauses and run-time options, expiry without a worker, retention.
-- works with: 1
-- Workers may keep running; those from before this do not heed pauses.

-- What operators change while workers run.
create table pgqueue.setting (
    kind       text not null check (kind in ('queue', 'task')),
    name       text not null check (name <> ''),
    paused_at  timestamptz,               -- nothing of it starts since then; null: not paused
    options    json,                      -- a task's options, over those of its declaration
    actor      text,
    reason     text,
    changed_at timestamptz not null default now(),
    primary key (kind, name)
);

-- Said once more in the lanes that it concerns, where a claim can see it for the price of an empty index.
alter table pgqueue.lane add column paused boolean not null default false;
create index lane_paused on pgqueue.lane (id) where paused;

-- Whether a lane stands still: its queue is paused, or the task that it is for.
create function pgqueue.is_paused(in_queue text, for_task text) returns boolean language sql stable as $$
    select exists (
        select from pgqueue.setting
        where paused_at is not null and (kind, name) in (('queue', in_queue), ('task', for_task))
    )
$$;

-- The lanes that stand still. Volatile: a claim calls it once it holds its lease, and has to see what was
-- committed until then, whatever the claim's own snapshot shows.
create function pgqueue.paused_lanes() returns integer[] language plpgsql volatile as $$
begin
    return array(select lane.id from pgqueue.lane where lane.paused);
end
$$;

create function pgqueue.set_lane_paused() returns trigger language plpgsql as $$
begin
    new.paused := pgqueue.is_paused(new.queue, new.task);
    return new;
end
$$;
create trigger set_lane_paused before insert on pgqueue.lane for each row
    execute function pgqueue.set_lane_paused();

-- Pause a queue or a task, or resume it. False: it is so already. Claims that are under way are not waited
-- for: PgQueue.pause does that.
create function pgqueue.set_paused(
    of_kind text, named text, paused boolean, actor text default null, reason text default null
) returns boolean language plpgsql as $$
begin
    -- A lane that is being made would not be seen, and would not see this: its maker is waited for.
    lock table pgqueue.lane in share row exclusive mode;
    if paused = exists (
        select from pgqueue.setting where kind = of_kind and name = named and paused_at is not null
    ) then
        return false;
    end if;
    insert into pgqueue.setting (kind, name, paused_at, actor, reason)
    values (of_kind, named, case when paused then now() end, set_paused.actor, set_paused.reason)
    on conflict (kind, name) do update
    set paused_at = excluded.paused_at, actor = excluded.actor, reason = excluded.reason, changed_at = now();
    update pgqueue.lane
    set paused = pgqueue.is_paused(lane.queue, lane.task)
    where named = case of_kind when 'queue' then lane.queue else lane.task end;
    return true;
end
$$;

-- When to look whether a job was started by its expiry. Only jobs that have one have a row.
create table pgqueue.expiry (
    job_id   uuid primary key,
    check_at timestamptz not null
);
create index expiry_check_at on pgqueue.expiry (check_at);

create function pgqueue.note_expiry() returns trigger language plpgsql as $$
begin
    insert into pgqueue.expiry (job_id, check_at) values (new.id, new.expires_at);
    return null;
end
$$;
-- A trigger, because jobs are made in several ways; a job without expiry pays for the look at its condition.
create trigger note_expiry after insert on pgqueue.job for each row
    when (new.expires_at is not null) execute function pgqueue.note_expiry();

insert into pgqueue.expiry (job_id, check_at)
select id, expires_at from pgqueue.job
where expires_at is not null
  and id = any(array(
      select job_id from pgqueue.ready union all select job_id from pgqueue.running
      union all select job_id from pgqueue.scheduled union all select job_id from pgqueue.blocked));

-- Who is at a chore that one worker does at a time, and until when nobody else may begin it.
create table pgqueue.chore (
    name     text primary key,
    holder   uuid not null,
    until_at timestamptz not null
);

-- The lowest UUIDv7 of a moment.
create function pgqueue.id_at(moment timestamptz) returns uuid language sql stable parallel safe as $$
    select rpad(lpad(to_hex(greatest(floor(extract(epoch from moment) * 1000), 0)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- The day partitions of `job`, oldest first, with the ids that each takes (the upper end not included).
create function pgqueue.day_partitions() returns table (name text, low uuid, high uuid)
language sql stable as $$
    select day.name, pgqueue.id_at(day.begins_at), pgqueue.id_at(day.begins_at + interval '24 hours')
    from (
        select relname::text as name, to_date(right(relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC' as begins_at
        from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = 'pgqueue.job'::regclass and relname ~ '^job_[0-9]{8}$'
    ) as day
    order by day.begins_at
$$;

-- Whether a job is past its retention; null stands for ever.
create function pgqueue.is_past(
    status pgqueue.job_status, completed_at timestamptz, succeeded interval, failed interval, cancelled interval,
    expired interval
) returns boolean language sql stable parallel safe as $$
    select coalesce(completed_at < now() - case status
        when 'succeeded' then succeeded when 'failed' then failed
        when 'cancelled' then cancelled when 'expired' then expired end, false)
$$;

-- The tables that keep something about jobs, by job_id, and lose it when the jobs go. Idempotency keys and the
-- inbox are not among them: they outlive their jobs.
create function pgqueue.tables_about_jobs() returns text[] language sql stable as $$
    select array(
        select name
        from unnest(array['attempt', 'action', 'step', 'progress', 'dead_letter', 'cancel_request', 'expiry'])
            as known (name)
        where to_regclass('pgqueue.' || name) is not null
    )
$$;

-- Remove what is kept about jobs that are gone or going.
create function pgqueue.forget(ids uuid[]) returns void language plpgsql as $$
declare
    kept_in text;
begin
    foreach kept_in in array pgqueue.tables_about_jobs() loop
        execute format('delete from pgqueue.%I where job_id = any($1)', kept_in) using ids;
    end loop;
end
$$;

-- ... of all jobs in a range of ids.
create function pgqueue.forget_range(low uuid, high uuid) returns void language plpgsql as $$
declare
    kept_in text;
begin
    foreach kept_in in array pgqueue.tables_about_jobs() loop
        execute format('delete from pgqueue.%I where job_id >= $1 and job_id < $2', kept_in) using low, high;
    end loop;
end
$$;

-- Drop a day partition in which no job is live; what other tables keep of its jobs has been removed.
-- False: a live job's id is in its range, or there are statements under way that it would have to wait for.
create function pgqueue.drop_partition(name text, low uuid, high uuid) returns boolean
language plpgsql set lock_timeout to '50ms' as $$
begin
    -- Claims that come meanwhile queue behind this: so it waits no longer than they may.
    lock table only pgqueue.job in access exclusive mode;
    if exists (select from pgqueue.ready where job_id >= low and job_id < high)
       or exists (select from pgqueue.running where job_id >= low and job_id < high)
       or exists (select from pgqueue.scheduled where job_id >= low and job_id < high)
       or exists (select from pgqueue.blocked where job_id >= low and job_id < high) then
        return false;
    end if;
    execute format('drop table pgqueue.%I', name);
    return true;
exception
    when lock_not_available or undefined_table or deadlock_detected then
        return false;
end
$$;

-- Open a new generation of those of the jobs `ids` that have ended as one of `statuses`. Returns how many, and
-- their lanes.
create function pgqueue.requeue(ids uuid[], statuses text[], reason text, actor text)
returns table (requeued integer, lanes integer[]) language plpgsql as $$
declare
    chosen uuid[];
begin
    select array_agg(locked.id) into chosen
    from (
        select job.id from pgqueue.job
        where job.id = any(ids) and job.status::text = any(statuses)
        order by job.id
        for update
    ) as locked;
    requeued := coalesce(cardinality(chosen), 0);
    lanes := '{}';
    if requeued > 0 then
        -- A request to cancel what has ended meanwhile would end it again.
        delete from pgqueue.cancel_request where job_id = any(chosen);
        lanes := pgqueue.reopen(chosen, 'requeued', reason => requeue.reason, actor => requeue.actor);
    end if;
    return next;
end
$$;
