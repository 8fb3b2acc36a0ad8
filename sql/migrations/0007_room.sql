-- 0007 room: pages of jobs keep room for the second version of each of their jobs.
-- works with: 1
-- Workers may keep running. Pages that are there already stay as they are: days to come, and new pages of
-- today, have the room.

-- A batch ends the jobs of whole pages in one statement, so the first versions are in the way of the second
-- ones: with a fillfactor of 70, only two in five stayed on their page (HOT). The others cost an entry in the
-- index, and the table ended up larger, not smaller: 381 bytes a job against 331 with 45, and an eighth
-- more WAL (measured, batches of 100 small jobs).
do $$
declare
    partition regclass;
begin
    for partition in select inhrelid::regclass from pg_inherits where inhparent = 'pgqueue.job'::regclass loop
        execute format('alter table %s set (fillfactor = 45)', partition);
    end loop;
end
$$;

create or replace function pgqueue.make_partition(moment timestamptz) returns boolean
language plpgsql set lock_timeout to '200ms' as $$
declare
    first_ms bigint := floor(extract(epoch from date_trunc('day', moment, 'UTC')) * 1000);
    day_ms constant bigint := 24 * 60 * 60 * 1000;
    low uuid := (rpad(lpad(to_hex(first_ms), 12, '0'), 32, '0'))::uuid;
    high uuid := (rpad(lpad(to_hex(first_ms + day_ms), 12, '0'), 32, '0'))::uuid;
    partition text := 'job_' || to_char(moment at time zone 'UTC', 'YYYYMMDD');
begin
    if to_regclass('pgqueue.' || partition) is not null
       or exists (select from pgqueue.job_default where id >= low and id < high) then
        return false;
    end if;
    execute format(
        'create table pgqueue.%I partition of pgqueue.job for values from (%L) to (%L) with (fillfactor = 45)',
        partition, low, high);
    execute format(
        'create trigger refuse_move before update or delete on pgqueue.%I for each statement '
        'when (current_setting(%L, true) is distinct from %L) execute function pgqueue.refuse_move()',
        partition, 'pgqueue.writer', 'on');
    return true;
exception
    -- Somebody else made it, or `job` is busy: the next round tries again.
    when duplicate_table or lock_not_available or check_violation or deadlock_detected then
        return false;
end
$$;
