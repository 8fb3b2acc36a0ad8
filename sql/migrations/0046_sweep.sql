-- 0046 sweep: a sweep of gates reads what stands at them, and not all that is blocked.
-- works with: 1
-- Workers may keep running.

-- By replacement, as other migrations do it: whatever else this has become stays. What looks like a join is one for the
-- planner, which reads one side whole where nested loops are off; a subquery for a value is not.
do $$
declare
    change record;
    definition text := pg_get_functiondef('pgqueue.sweep_gates'::regproc);
begin
    for change in
        select * from (values
            (E'    leaked := array(\n'
             '        select distinct gate_pass.job_id from pgqueue.gate_pass\n',
             E'    with passed as materialized (\n'
             '        select distinct gate_pass.job_id from pgqueue.gate_pass\n'),
            (E'              or (select job.status is null from pgqueue.job where job.id = gate_pass.job_id) is not true)\n'
             '          and not exists (select from pgqueue.ready where ready.job_id = gate_pass.job_id)\n'
             '          and not exists (select from pgqueue.running where running.job_id = gate_pass.job_id)\n'
             '          and not exists (select from pgqueue.blocked where blocked.job_id = gate_pass.job_id and blocked.gate is not null));\n',
             E'              or (select job.status is null from pgqueue.job where job.id = gate_pass.job_id) is not true)\n'
             '    ),\n'
             '    asked as materialized (select array(select passed.job_id from passed) as ids),\n'
             '    lost as (\n'
             '        select passed.job_id from passed\n'
             '        except\n'
             '        (select ready.job_id from pgqueue.ready where ready.job_id = any((select asked.ids from asked)::uuid[])\n'
             '         union all\n'
             '         select running.job_id from pgqueue.running where running.job_id = any((select asked.ids from asked)::uuid[])\n'
             '         union all\n'
             '         select blocked.job_id from pgqueue.blocked\n'
             '         where blocked.job_id = any((select asked.ids from asked)::uuid[]) and blocked.gate is not null)\n'
             '    )\n'
             '    select array(select lost.job_id from lost) into leaked;\n'),
            (E'and not exists (select from pgqueue.job where job.id = stopped.job_id);\n',
             E'and (select job.id from pgqueue.job where job.id = stopped.job_id) is null;\n'),
            (E'    where exists (select from pgqueue.blocked where blocked.gate = waiting.id);\n',
             E'    where (select true from pgqueue.blocked where blocked.gate = waiting.id limit 1);\n'),
            (E'          and not exists (select from pgqueue.gate_pass where gate_pass.gate = gate.id)\n'
             '          and not exists (select from pgqueue.blocked where blocked.gate = gate.id)\n'
             '          and not exists (\n'
             '              select from pgqueue.gate_state as state\n',
             E'          and (select true from pgqueue.gate_pass where gate_pass.gate = gate.id limit 1) is null\n'
             '          and (select true from pgqueue.blocked where blocked.gate = gate.id limit 1) is null\n'
             '          and (\n'
             '              select true from pgqueue.gate_state as state\n'),
            (E'                         - state.closed) < coalesce(rule.burst, 1)))\n',
             E'                         - state.closed) < coalesce(rule.burst, 1))\n              limit 1) is null\n')
        ) as given (was, becomes)
    loop
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.sweep_gates is not as the migrations before this left it: %', change.was;
        end if;
        definition := replace(definition, change.was, change.becomes);
    end loop;
    execute definition;
end
$$;
