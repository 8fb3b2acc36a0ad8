-- 0032 limiters: what handlers hold, or count, while they run.
-- works with: 1
-- Workers may keep running: they know no limiters.

-- One name that handlers use. Who asks holds its row. `id` is a digest of kind and name: see key_id.
create table pgqueue.limiter (
    id      uuid primary key,
    kind    text not null check (kind in ('slots', 'bucket', 'window')),
    name    text not null,
    made_at timestamptz not null default now()
);

-- What has been counted; the highest number counts. Replaced, not updated, so that old versions, which a held snapshot
-- keeps, are not in the way.
create table pgqueue.limiter_state (
    limiter uuid not null,
    number  bigint not null,
    low     bigint not null,                      -- nothing of it has a lower turn
    at      timestamptz not null,
    until   timestamptz not null,                 -- what is counted here says nothing afterwards
    tokens  double precision,                     -- bucket: how many there were then
    width   double precision,                     -- window: seconds that each count is for
    latest  bigint,                               -- ... the number of the last one
    counts  integer[],
    primary key (limiter, number)
);

-- Who holds a slot, or waits for his turn: an attempt, and only while it is running. So nothing has to be given back
-- where jobs end.
create table pgqueue.limiter_hold (
    id         uuid primary key,                  -- client-made, so that asking twice is asking once
    limiter    uuid not null,
    turn       bigint not null,
    job_id     uuid not null,
    lease_id   uuid not null,
    claimed_at timestamptz not null,
    since      timestamptz                        -- null: it waits
);
create unique index limiter_hold_turn on pgqueue.limiter_hold (limiter, turn);
create index limiter_hold_since on pgqueue.limiter_hold (limiter, turn) where since is not null;

-- Whether the attempt that has a hold is still running.
create function pgqueue.is_running(job uuid, lease uuid, claimed_at timestamptz) returns boolean
language sql stable
return exists (
    select from pgqueue.running
    where running.job_id = is_running.job and running.lease_id = is_running.lease
      and running.claimed_at = is_running.claimed_at and running.started_at is not null
);

-- Ask limiter `name` of `kind` for what the running job `job` of `lease` is to have as `hold`: one of `most` slots, or
-- one of `most` times in each `period` (seconds). First come, first served, among those that ask again and again.
-- `waits`: keep its turn if there is no room. Verdict: held; waits; full; lost, which is that the attempt is over.
create function pgqueue.take_limiter(
    hold uuid, kind text, name text, most integer, period double precision, job uuid, lease uuid, waits boolean,
    out verdict text, out retry_after double precision
)
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    slices constant integer := 100;
    asked uuid;
    generation timestamptz;
    moment timestamptz;
    own record;
    state record;
    other record;
    room integer;
    ahead integer := 0;
    tokens double precision;
    width double precision;
    latest bigint;
    counts integer[];
    shift integer;
    is_set_back boolean;
begin
    if kind is null or kind not in ('slots', 'bucket', 'window') or coalesce(most < 1, true)
       or (kind <> 'slots' and coalesce(not (period >= 0.01 and period <= 1e9), true)) then
        raise exception 'pgqueue.take_limiter: limiter % needs a kind, a number of 1 or more, and a period', name
            using errcode = 'invalid_parameter_value';
    end if;
    perform pgqueue.check_text('pgqueue.take_limiter: name', name, 200, 1);
    asked := pgqueue.key_id('limiter/' || kind, name);
    loop
        perform from pgqueue.limiter where limiter.id = asked for update;
        exit when found;
        insert into pgqueue.limiter (id, kind, name)
        values (asked, take_limiter.kind, take_limiter.name) on conflict do nothing;
    end loop;
    -- From here on a new snapshot: all of this is written under that lock alone, but for what is given back.
    select running.claimed_at into generation from pgqueue.running
    where running.job_id = job and running.lease_id = lease and running.started_at is not null;
    if not found then
        verdict := 'lost';
        return;
    end if;
    select held.turn, held.since into own from pgqueue.limiter_hold as held where held.id = hold;
    if own.since is not null then
        verdict := 'held';
        return;
    end if;
    moment := clock_timestamp();
    select * into state from pgqueue.limiter_state
    where limiter_state.limiter = asked order by number desc limit 1;
    if not isfinite(state.at) then
        state.at := null;
    end if;
    -- Its clock was set back: how much time has passed is not known, and counts as none.
    is_set_back := coalesce(state.at > moment, false);
    if kind = 'slots' then
        room := most;
        for other in
            select held.id, held.job_id, held.lease_id, held.claimed_at from pgqueue.limiter_hold as held
            where held.limiter = asked and held.since is not null and held.turn >= coalesce(state.low, 0)
        loop
            if pgqueue.is_running(other.job_id, other.lease_id, other.claimed_at) then
                room := room - 1;
            else
                delete from pgqueue.limiter_hold where limiter_hold.id = other.id;
            end if;
        end loop;
    elsif kind = 'bucket' then
        tokens := least(most, coalesce(
            state.tokens + greatest(extract(epoch from moment - state.at), 0) * most / period, most));
        -- Rounding must not hold back the last one.
        room := floor(greatest(tokens, 0) + 1e-6);
        retry_after := (1 - tokens) * period / most;
    else
        width := period / slices;
        latest := floor(extract(epoch from moment) / width);
        if state.at is null or state.latest is null or (state.until <= moment and not is_set_back) then
            counts := array_fill(0, array[slices + 1]);
        elsif is_set_back or state.width is distinct from width then
            -- Counted by another clock or in other slices: as if it were now.
            counts := array_fill(0, array[slices]) || least(
                (select coalesce(sum(given), 0) from unnest(state.counts) as given), 2147483647)::integer;
        else
            -- A slice counts until its last moment is a period ago.
            shift := least(latest - state.latest, slices + 1);
            counts := array(
                select coalesce(state.counts[number + shift], 0)
                from generate_series(1, slices + 1) as number order by number);
        end if;
        room := most - least((select sum(given) from unnest(counts) as given), 2147483647);
        retry_after := ((select min(number) from generate_series(1, slices + 1) as number where counts[number] > 0)
                        + latest) * width - extract(epoch from moment);
    end if;
    -- Those that came before are served before.
    if room > 0 then
        for other in
            select held.job_id, held.lease_id, held.claimed_at from pgqueue.limiter_hold as held
            where held.limiter = asked and held.since is null and held.turn >= coalesce(state.low, 0)
              and (own.turn is null or held.turn < own.turn)
            order by held.turn
        loop
            if pgqueue.is_running(other.job_id, other.lease_id, other.claimed_at) then
                ahead := ahead + 1;
                exit when ahead >= room;
            end if;
        end loop;
    end if;
    if room > ahead then
        verdict := 'held';
        retry_after := null;
        if kind = 'slots' then
            insert into pgqueue.limiter_hold as held (id, limiter, turn, job_id, lease_id, claimed_at, since)
            values (hold, asked, nextval('pgqueue.position'), job, lease, generation, moment)
            on conflict on constraint limiter_hold_pkey do update set since = excluded.since;
        else
            delete from pgqueue.limiter_hold where limiter_hold.id = hold;
            tokens := tokens - 1;
            counts[slices + 1] := counts[slices + 1] + 1;
        end if;
    elsif waits then
        verdict := 'waits';
        insert into pgqueue.limiter_hold (id, limiter, turn, job_id, lease_id, claimed_at)
        values (hold, asked, nextval('pgqueue.position'), job, lease, generation)
        on conflict on constraint limiter_hold_pkey do nothing;
    else
        verdict := 'full';
        delete from pgqueue.limiter_hold where limiter_hold.id = hold;
    end if;
    if verdict = 'held' or is_set_back then
        insert into pgqueue.limiter_state (limiter, number, low, at, until, tokens, width, latest, counts)
        values (asked, coalesce(state.number, 0) + 1,
                coalesce((select min(held.turn) from pgqueue.limiter_hold as held
                          where held.limiter = asked and held.turn >= coalesce(state.low, 0)),
                         greatest(own.turn, state.low, 0)),
                moment, moment + make_interval(secs => coalesce(period, 0)), tokens, width, latest, counts);
        delete from pgqueue.limiter_state
        where limiter_state.limiter = asked and limiter_state.number <= state.number;
    end if;
    -- Null stays null: nobody knows when a slot is given back.
    retry_after := case when retry_after < 0 then 0 else retry_after end;
end
$$;

-- Look at up to `most` limiters behind `after`: remove what attempts hold or wait for that are over, and limiters that
-- nothing has used for a day. Returns the last one looked at; null: there are no more.
create function pgqueue.sweep_limiters(after uuid, most integer) returns uuid
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    looked uuid[] := array(
        select limiter.id from pgqueue.limiter where limiter.id > sweep_limiters.after order by limiter.id limit most);
    idle uuid[];
begin
    delete from pgqueue.limiter_hold
    where limiter_hold.limiter = any(looked)
      and not pgqueue.is_running(limiter_hold.job_id, limiter_hold.lease_id, limiter_hold.claimed_at);
    -- Who waits for its row meanwhile finds it gone, and makes another.
    idle := array(
        select limiter.id from pgqueue.limiter
        where limiter.id = any(looked) and limiter.made_at < now() - interval '1 day'
          and not exists (select from pgqueue.limiter_hold where limiter_hold.limiter = limiter.id)
          and not exists (
              select from pgqueue.limiter_state
              where limiter_state.limiter = limiter.id and limiter_state.until > now() - interval '1 day')
        for update skip locked);
    delete from pgqueue.limiter_state
    where limiter_state.limiter = any(idle)
      and not exists (
          select from pgqueue.limiter_state as later
          where later.limiter = limiter_state.limiter and later.until > now() - interval '1 day');
    delete from pgqueue.limiter
    where limiter.id = any(idle)
      and not exists (select from pgqueue.limiter_hold where limiter_hold.limiter = limiter.id)
      and not exists (select from pgqueue.limiter_state where limiter_state.limiter = limiter.id);
    return looked[most];
end
$$;
