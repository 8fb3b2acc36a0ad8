-- 0041 looks: a rate that jobs wait for is held also where nobody looks for a while.
-- works with: 1
-- Workers may keep running.

-- By replacement, as other migrations do it: whatever else this has become stays.
do $$
declare
    change record;
    definition text := pg_get_functiondef('pgqueue.attend_gates'::regproc);
begin
    for change in
        select * from (values
            (E'                    else least(coalesce(rule.burst, 1),\n'
             '                               state.tokens + coalesce(rule.rate, 0) * greatest(since.seconds - state.closed, 0))\n'
             '               end as tokens,\n',
             E'                    else state.tokens + coalesce(rule.rate, 0) * greatest(since.seconds - state.closed, 0)\n'
             '               end as earned,\n'),
            (E'        select held.*, greatest(0, least(most, case\n', E'        select held.*, bucket.tokens, greatest(0, least(most, case\n'),
            (E'            else least(floor(held.tokens)::integer, held.burst', E'            else least(floor(bucket.tokens)::integer, held.burst'),
            (E'        end)) as free\n        from held\n',
             E'        end)) as free\n'
             '        from held\n'
             -- Two bursts at most can start at once: this, and what nobody had claimed.
             '        -- While jobs wait, what comes in between two looks is kept, without what nobody has claimed. After a\n'
             '        -- longer time nobody was there to claim, and a crowd is ready.\n'
             '        cross join lateral (\n'
             '            select least(held.earned, case\n'
             '                when coalesce(cardinality(held.old_lanes), 0) = 0 then held.burst\n'
             '                when held.seconds > 1 then greatest(1, 0.5 * held.burst)\n'
             '                else greatest(0.5 * held.burst, 1.5 * held.burst - coalesce(cardinality(held.in_lanes), 0))\n'
             '            end) as tokens\n'
             '        ) as bucket\n'),
            -- What a look takes is not lost: the next one counts from when this one has read the clock.
            (E'            select greatest(0, extract(epoch from clock_timestamp())::double precision\n'
             '                               - extract(epoch from state.at)::double precision) as seconds,\n'
             '                   state.at > clock_timestamp() as was_set_back\n',
             E'            select greatest(0, extract(epoch from clock.seen_at)::double precision\n'
             '                               - extract(epoch from state.at)::double precision) as seconds,\n'
             '                   state.at > clock.seen_at as was_set_back, clock.seen_at\n'
             '            from (select clock_timestamp() as seen_at) as clock\n'),
            (E'since.was_set_back,\n', E'since.was_set_back, since.seen_at, since.seconds,\n'),
            (E'else 0 end), clock_timestamp(),\n', E'else 0 end), outcome.seen_at,\n'),
            (E'            else 0.2\n', E'            else 0.1\n'),
            (E'            where given.id <> all(array(select note.node_id from pgqueue.note where note.id = any(mine) and note.kind = ''gate''))\n',
             E'            where given.id not in (select note.node_id from pgqueue.note where note.id = any(mine) and note.kind = ''gate'')\n'),
            (E'        where not exists (select from pgqueue.gate where gate.id = given.id)\n          and exists (',
             E'        where (select true from pgqueue.gate where gate.id = given.id) is null\n          and exists (')
        ) as given (was, becomes)
    loop
        if position(change.was in definition) = 0 then
            raise exception 'function pgqueue.attend_gates is not as the migrations before this left it: %', change.was;
        end if;
        definition := replace(definition, change.was, change.becomes);
    end loop;
    execute definition;
end
$$;
