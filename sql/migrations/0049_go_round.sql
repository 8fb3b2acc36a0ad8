-- 0049 go round: a transition by hand finds a job that a limit lets through, or whose time comes, just then.
-- works with: 1
-- Workers may keep running.

-- By replacement, as other migrations do it: whatever else this has become stays.
do $migration$
declare
    definition text := pg_get_functiondef('pgqueue.transition'::regproc);
    was constant text := $was$    before := pgqueue.status_of(transition.id);
    if not coalesce(pgqueue.is_legal_transition(before, after), false) then
        raise exception 'job % is %: it cannot become %', transition.id, coalesce(before::text, 'nowhere'), after
            using errcode = 'restrict_violation';
    end if;
    delete from pgqueue.ready where job_id = transition.id
        returning ready.attempt, ready.losses, ready.lane, ready.position, ready.ready_at
        into spent, lost, in_lane, place, since;
    if not found then
        delete from pgqueue.scheduled where job_id = transition.id
            returning scheduled.attempt, scheduled.losses, scheduled.lane into spent, lost, in_lane;
    end if;
    if not found then
        delete from pgqueue.blocked where job_id = transition.id
            returning blocked.attempt, blocked.losses, blocked.lane into spent, lost, in_lane;
    end if;
    if not found then
        delete from pgqueue.running where job_id = transition.id and lease_id = holder
            returning running.attempt, running.losses, running.lane, running.position, running.started_at
            into spent, lost, in_lane, place, first_start;
    end if;
    if not found then
        raise exception 'job % is %, but not under lease %', transition.id, before, holder
            using errcode = 'restrict_violation';
    end if;
$was$;
begin
    if position(was in definition) = 0 then
        raise exception 'function pgqueue.transition is not as the migrations before this left it';
    end if;
    execute replace(definition, was, $new$    -- It goes round while we look, as a gate lets it through or its time comes: see cancel.
    loop
        before := pgqueue.status_of(transition.id);
        if not coalesce(pgqueue.is_legal_transition(before, after), false) then
            raise exception 'job % is %: it cannot become %', transition.id, coalesce(before::text, 'nowhere'), after
                using errcode = 'restrict_violation';
        end if;
        delete from pgqueue.ready where job_id = transition.id
            returning ready.attempt, ready.losses, ready.lane, ready.position, ready.ready_at
            into spent, lost, in_lane, place, since;
        if not found then
            delete from pgqueue.scheduled where job_id = transition.id
                returning scheduled.attempt, scheduled.losses, scheduled.lane into spent, lost, in_lane;
        end if;
        if not found then
            delete from pgqueue.blocked where job_id = transition.id
                returning blocked.attempt, blocked.losses, blocked.lane into spent, lost, in_lane;
        end if;
        if not found then
            delete from pgqueue.running where job_id = transition.id and lease_id = holder
                returning running.attempt, running.losses, running.lane, running.position, running.started_at
                into spent, lost, in_lane, place, first_start;
        end if;
        exit when found;
        if before not in ('pending', 'scheduled', 'blocked')
           or exists (select from pgqueue.running where job_id = transition.id) then
            raise exception 'job % is %, but not under lease %', transition.id, before, holder
                using errcode = 'restrict_violation';
        end if;
    end loop;
$new$);
end
$migration$;
