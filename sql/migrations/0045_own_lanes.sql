-- 0045 own lanes: a worker learns which jobs it has let through itself, for which it has slots.
-- works with: 1
-- Workers may keep running: they see no lanes, and find those jobs a second later.

-- Settle the ends of jobs that have succeeded, as settle does, but that what they held goes to the next ones at once.
-- `own`: the lanes of these, which are no more than have ended.
create or replace function pgqueue.settle_and_hand_over(ids uuid[], hooks integer) returns json
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    settled json;
    over record;
begin
    if hooks & 4 = 0 then
        return pgqueue.settle(ids, hooks);
    end if;
    select * into over from pgqueue.hand_over(ids);
    if hooks & ~36 = 0 then
        return json_build_object('notes', coalesce(over.notes, '{}'), 'lanes', '{}'::integer[], 'own', over.lanes);
    end if;
    settled := pgqueue.settle(ids, hooks & ~36);
    return json_build_object(
        'notes', over.notes || array(select json_array_elements_text(settled -> 'notes')::bigint),
        'lanes', settled -> 'lanes', 'own', over.lanes);
end
$$;
