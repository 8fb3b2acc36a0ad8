-- 0044 quick doors: jobs that get their limits after they were written cost the database half of what they did.
-- works with: 1
-- Workers may keep running: what is done stays the same.

-- See 0028. The notes say where the jobs wait. Only what stands among the ready jobs is asked for its next gate.
create or replace function pgqueue.gate_in(ids uuid[], places bigint default null) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    notes bigint[];
    limited uuid[];
begin
    select array_agg(job.id) into limited from pgqueue.job where job.id = any(ids) and job.hooks & 4 > 0;
    if limited is null then
        return null;
    end if;
    with gated as materialized (
        select job.id,
               -- Most have one, and the function costs several times as much.
               case when cardinality(job.gates) = 2 then (
                        select only_one.gate
                        from (select pgqueue.key_id(job.gates[1], job.gates[2]) as gate) as only_one
                        where not exists (
                            select from pgqueue.gate_pass where gate_pass.gate = only_one.gate and gate_pass.job_id = job.id))
                    else pgqueue.next_gate(job.id, job.gates) end as gate,
               case when cardinality(job.gates) = 2 and job.workflow_id is null then true end as single, job.turn,
               case when job.turn is not null then pgqueue.key_id(job.gates[1], job.gates[2]) end as line
        from pgqueue.job
        where job.id = any(array(select ready.job_id from pgqueue.ready where ready.job_id = any(limited)))
    ),
    moved as (
        delete from pgqueue.ready
        where job_id = any(array(select id from gated where gate is not null))
        returning job_id, lane, position, attempt, losses
    ),
    waiting as (
        insert into pgqueue.blocked (job_id, lane, position, attempt, losses, gated, gate, single, turn)
        select moved.job_id, moved.lane, moved.position, moved.attempt, moved.losses, true, gated.gate, gated.single,
               case when gated.gate = gated.line then gated.turn else moved.position end
        from moved join gated on gated.id = moved.job_id
        order by moved.position
        returning gate, lane, turn
    ),
    fresh as (
        insert into pgqueue.note (node_id, kind, lane, low)
        select gate, 'gate', lane, min(turn) from waiting group by gate, lane returning id
    )
    select array_agg(id) into notes from fresh;
    update pgqueue.scheduled set gated = true where job_id = any(limited) and gated is null;
    update pgqueue.blocked set gated = true where job_id = any(limited) and gated is null;
    return notes;
end
$$;

-- Give jobs that were just made their gates: `documents`, a JSON list for each. Returns the notes that it wrote.
create or replace function pgqueue.limit_jobs(ids uuid[], documents json) returns bigint[]
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    -- One name and one key, short and without escapes: nothing is wrong with these. Most lists are like that.
    usual constant text := '^\[\["[^"\\]+", ?"[^"\\]*"\]\]$';
    flaw text;
begin
    select format('job %s: %s', given.id, pgqueue.flaw_of_gates(given.gates)) into flaw
    from rows from (unnest(ids), json_array_elements(documents)) as given (id, gates)
    where (length(given.gates::text) > 300 or given.gates::text !~ usual)
      and pgqueue.flaw_of_gates(given.gates) is not null limit 1;
    if flaw is not null then
        raise exception 'pgqueue.limit_jobs: %', flaw using errcode = 'invalid_parameter_value';
    end if;
    with given as materialized (
        select made.id, made.gates, length(made.gates::text) <= 300 and made.gates::text ~ usual as is_usual,
               case when starts_with(made.gates -> 0 ->> 0, 'order/') then nextval('pgqueue.position') end as turn
        from rows from (unnest(ids), json_array_elements(documents)) with ordinality as made (id, gates, number)
        order by made.number
    )
    update pgqueue.job
    set hooks = coalesce(job.hooks, 0) | case when given.turn is null then 4 else 36 end,
        turn = given.turn,
        gates = case
            when given.is_usual then array[given.gates -> 0 ->> 0, given.gates -> 0 ->> 1]
            else array(
                select pair.part
                from json_array_elements(given.gates) with ordinality as gate (pair, number)
                cross join lateral (values (1, gate.pair ->> 0), (2, gate.pair ->> 1)) as pair (side, part)
                order by gate.number, pair.side)
        end
    from given
    where job.id = given.id and job.id = any(ids) and job.status is null and json_array_length(given.gates) > 0;
    return pgqueue.gate_in(ids);
end
$$;
