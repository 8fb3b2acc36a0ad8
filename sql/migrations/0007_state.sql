-- 0007 state: pauses and run-time options, expiry without a worker, retention.
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
