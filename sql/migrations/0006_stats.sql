-- 0006 stats: what processes write down of what they did, how their event loops turn, and indexes to count by.
-- works with: 1
-- Workers may keep running: those from before write nothing down. Jobs that are to wait for a time or for
-- others, and jobs that fail, wait while the indexes of those that there are already are built.

alter table pgqueue.lease add column loop_lag float8;    -- seconds its event loop took to turn; null: it does not say

-- What a process did of a queue in one stretch of time: a row every ten seconds or so in which it did anything.
-- Histograms count by the bounds in pgqueue/estimates.py, in seconds; null: there was nothing.
create table pgqueue.stat (
    id        uuid primary key,           -- made by the process: written again, it is written once
    at        timestamptz not null default now(), -- the stretch's end
    seconds   float8 not null,            -- its length
    queue     text not null,
    enqueued  integer not null,
    claimed   integer not null,
    succeeded integer not null,
    failed    integer not null,
    cancelled integer not null,
    expired   integer not null,
    retried   integer not null,
    lost      integer not null,            -- taken back from a lost worker
    waits     integer[],                   -- from ready to claimed
    runs      integer[],                  -- of handlers
    merged    boolean not null default false  -- of all processes, for a minute: what older rows are made into
);
create index stat_at on pgqueue.stat (at);
create index stat_to_merge on pgqueue.stat (at) where not merged;

-- To count what waits, lane by lane, and to stop at a cap. Attempts: those of none wait for their first start.
create index scheduled_lane on pgqueue.scheduled (lane, attempt);
create index blocked_lane on pgqueue.blocked (lane);
create index dead_letter_queue on pgqueue.dead_letter (queue);
