-- 0036 throttle: a call can replace a job that waits and leave it its time.
-- works with: 1
-- Workers may keep running.

do $$
declare
    change record;
    definition text := pg_get_functiondef('pgqueue.replace_jobs'::regproc);
begin
    for change in
        select * from (values
            (E'            job_id uuid, task text, arguments text,', E'            keeps_time boolean, job_id uuid, task text, arguments text,'),
            (E'        start_at := coalesce(call.run_at, now() + make_interval(secs => call.delay));\n',
             E'        start_at := case when call.keeps_time then (select job.run_at from pgqueue.job where job.id = call.job_id)\n'
             '                         else coalesce(call.run_at, now() + make_interval(secs => call.delay)) end;\n')
        ) as given (was, becomes)
    loop
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.replace_jobs is not as the migrations before this left it: %', change.was;
        end if;
        definition := replace(definition, change.was, change.becomes);
    end loop;
    execute definition;
end
$$;
