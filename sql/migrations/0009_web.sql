-- 0009 web: what the status apps of all processes share: logouts, and a secret for cursors.
-- works with: 1
-- Workers may keep running: they use none of it.

-- A cookie is valid by its signature. Only one that was ended before its time is on record, until then.
create table pgqueue.ended_session (
    id text primary key,
    valid_until timestamptz not null
);

-- Cursors are sealed where jobs have owners: a client must neither read another owner's job id in one, nor make
-- one up.
create table pgqueue.web_secret (
    is_only boolean primary key default true check (is_only),
    secret text not null
);

insert into pgqueue.web_secret (secret)
values (gen_random_uuid()::text || gen_random_uuid()::text);
