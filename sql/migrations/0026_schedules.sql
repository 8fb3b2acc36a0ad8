-- 0026 schedules: jobs that are enqueued at times: by cron, at intervals, or once.
-- works with: 1
-- Workers may keep running: they leave schedules to newer ones.
--
-- Whoever finds a schedule due locks its row, and in that transaction writes the jobs, what the history says, and the
-- next tick. So any number of workers make one job a tick, whatever ends in between.

create table pgqueue.schedule (
    name          text primary key check (length(name) between 1 and 200),
    secret        uuid not null default gen_random_uuid(),  -- what ids of its jobs are made of, so that nobody guesses them
    task          text not null,
    arguments     json not null,
    template      json not null,                -- queue, priority and the other columns of its jobs
    cron          text,                         -- one of these three says when
    every         double precision,
    at            timestamptz,
    timezone      text not null default 'UTC',
    starts_at     timestamptz,
    ends_at       timestamptz,
    misfire       text not null default 'once',
    overlap       text not null default 'allow',
    catch_up      double precision not null default 86400,
    jitter        double precision not null default 0,
    tick_argument text,                         -- the parameter that gets the tick's time
    next_at       timestamptz,                  -- its next tick; null: there is none
    due_at        timestamptz,                  -- when workers look at it: at its next tick, or later after an error
    last_at       timestamptz,
    last_job      uuid,
    missed        bigint not null default 0,    -- ticks for which no job was made because they were late
    error         text,                         -- why it could not tick; null: it could
    failures      integer not null default 0,
    created_at    timestamptz not null default now(),
    paused_at     timestamptz,
    declared      json,                         -- what code says it is; null: no code does
    declared_at   timestamptz,                  -- when a worker last said so
    edited_at     timestamptz,                  -- an operator has edited it: what code says does not change it
    actor         text,
    reason        text
);
create index schedule_due_at on pgqueue.schedule (due_at) where paused_at is null;

-- The history: the latest hundred ticks of each schedule.
create table pgqueue.tick (
    schedule    text not null,
    at          timestamptz not null,
    job_id      uuid,                           -- null: no job was made
    outcome     text not null,
    recorded_at timestamptz not null default now(),
    primary key (schedule, at)
);
