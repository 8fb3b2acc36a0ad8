-- 0054 bulk: what operators do to many jobs at once, which workers carry out in the background.
-- works with: 1
-- Workers may keep running: those from before this leave it to the others.

-- One row per operation on many jobs. They are walked from the newest id to the oldest.
create table pgqueue.bulk (
    id         uuid primary key,
    verb       text not null check (verb in ('cancel', 'requeue', 'discard')),
    filter     json,                          -- as JobFilter writes it; null: the jobs are listed
    job_ids    uuid[],                        -- the jobs, listed; null: those that match the filter
    expected   bigint,                        -- the jobs that its preview counted; null: it had none
    reason     text,
    actor      text not null default session_user,
    state      text not null default 'running' check (state in ('running', 'done', 'cancelled')),
    found      bigint not null default 0,     -- jobs that it has come to
    done       bigint not null default 0,     -- jobs that it has changed; the others had changed meanwhile
    reached    uuid,                          -- the last id that it has looked at
    created_at timestamptz not null default now(),
    carried_at timestamptz not null default now(),
    ended_at   timestamptz,
    check ((filter is null) <> (job_ids is null))
);
create index bulk_running on pgqueue.bulk (carried_at) where state = 'running';
