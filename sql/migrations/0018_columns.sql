-- 0018 columns: columns that users add to pgqueue's tables keep no job from ending.
-- works with: 1
-- Workers may keep running: they read the same columns as before.

-- Rows of a table's type have the columns that users add, generated ones included, and could not be inserted.
drop function pgqueue.describe_dead(uuid[]);
create function pgqueue.describe_dead(ids uuid[]) returns table (
    job_id uuid, failed_at timestamptz, task text, queue text, reason text, fingerprint text, error_type text,
    message text, attempt integer, worker text, version text
) language sql stable
begin atomic
    select job.id, job.completed_at, job.task,
           (select lane.queue from pgqueue.lane where lane.id = job.lane),
           coalesce(job.reason, 'failed'),
           pgqueue.fingerprint(job.task, coalesce(job.reason, 'failed'), job.error ->> 'type', job.error ->> 'message'),
           job.error ->> 'type',
           left(split_part(job.error ->> 'message', chr(10), 1), 200),
           coalesce(job.attempt, 0),
           job.worker,
           (select attempt.version from pgqueue.attempt where attempt.job_id = job.id order by attempt.id desc limit 1)
    from pgqueue.job
    where job.id = any(ids) and job.status = 'failed';
end;

-- Functions that took whole rows. What they are now is in sql/schema.sql.
do $$
declare
    change text[];
    definition text;
    columns constant text :=
        'job_id, failed_at, task, queue, reason, fingerprint, error_type, message, attempt, worker, version';
begin
    foreach change slice 1 in array array[
        ['enter_dead_letters', 'insert into pgqueue.dead_letter select * from pgqueue.describe_dead(ids)',
         format(E'insert into pgqueue.dead_letter (\n            %s)\n        select %s\n        from pgqueue.describe_dead(ids)',
                columns, columns)],
        ['make_partition', E'    writer text :=',
         E'    -- Generated ones are not to be written.\n'
         '    columns text := (select string_agg(quote_ident(attname), '', '' order by attnum) from pg_attribute\n'
         '                     where attrelid = ''pgqueue.job''::regclass and attnum > 0 and not attisdropped\n'
         '                       and attgenerated = '''');\n'
         '    writer text :='],
        ['make_partition', 'including defaults including constraints)',
         'including defaults including generated including constraints)'],
        ['make_partition',
         E'id < %L returning *) ''\n            ''insert into pgqueue.%I select * from moved'', low, high, partition);',
         E'id < %L returning *) ''\n            ''insert into pgqueue.%I (%s) select %s from moved'','
         ' low, high, partition, columns, columns);']
    ] loop
        definition := pg_get_functiondef(('pgqueue.' || change[1])::regproc);
        if position(change[2] in definition) = 0 then
            raise exception 'function pgqueue.% is not as the migrations before this left it', change[1];
        end if;
        execute replace(definition, change[2], change[3]);
    end loop;
end
$$;
