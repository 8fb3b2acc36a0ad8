-- 0009 web: what status apps share, logouts and a secret for cursors; and chosen ids do not keep days from their
-- partitions.
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

-- A caller may choose an id of a day that has no partition yet, which then keeps the partition from being made. So
-- the jobs of a day to come move into it. Those of today stay where they are: workers are at them.
create or replace function pgqueue.make_partition(moment timestamptz) returns boolean
language plpgsql security definer set lock_timeout to '200ms' set search_path to pg_catalog, pg_temp as $$
declare
    first_ms bigint := floor(extract(epoch from date_trunc('day', moment, 'UTC')) * 1000);
    day_ms constant bigint := 24 * 60 * 60 * 1000;
    low uuid := (rpad(lpad(to_hex(first_ms), 12, '0'), 32, '0'))::uuid;
    high uuid := (rpad(lpad(to_hex(first_ms + day_ms), 12, '0'), 32, '0'))::uuid;
    partition text := 'job_' || to_char(moment at time zone 'UTC', 'YYYYMMDD');
    writer text := current_setting('pgqueue.writer', true);
begin
    if to_regclass('pgqueue.' || partition) is not null then
        return false;
    end if;
    if not exists (select from pgqueue.job_default where id >= low and id < high) then
        execute format(
            'create table pgqueue.%I partition of pgqueue.job for values from (%L) to (%L) with (fillfactor = 45)',
            partition, low, high);
    elsif first_ms <= extract(epoch from now()) * 1000 then
        return false;
    else
        -- Whoever writes a job there waits, and then finds it in its partition.
        lock table pgqueue.job_default in access exclusive mode;
        execute format(
            'create table pgqueue.%I (like pgqueue.job including defaults including constraints) '
            'with (fillfactor = 45)', partition);
        perform set_config('pgqueue.writer', 'on', true);
        execute format(
            'with moved as (delete from pgqueue.job_default where id >= %L and id < %L returning *) '
            'insert into pgqueue.%I select * from moved', low, high, partition);
        perform set_config('pgqueue.writer', coalesce(writer, ''), true);
        execute format(
            'alter table pgqueue.job attach partition pgqueue.%I for values from (%L) to (%L)',
            partition, low, high);
    end if;
    execute format(
        'create trigger refuse_move before update or delete on pgqueue.%I for each statement '
        'when (current_setting(%L, true) is distinct from %L) execute function pgqueue.refuse_move()',
        partition, 'pgqueue.writer', 'on');
    return true;
exception
    -- Another session made it, or `job` is busy: the next round tries again.
    when duplicate_table or lock_not_available or check_violation or deadlock_detected then
        return false;
end
$$;
