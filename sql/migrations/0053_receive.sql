-- 0053 receive: jobs that consumers receive and acknowledge, without a worker that runs them.
-- works with: 1
-- Workers may keep running. Until they are new, they list receipts among the workers, and return expired ones later.

alter table pgqueue.lease add column receipt_of uuid;   -- the one job that a consumer has received under it; null: a worker's
create index lease_receipt on pgqueue.lease (expires_at) where receipt_of is not null;

-- Rescue up to `most` jobs, but for `without`, of an expired lease that the caller has locked: see sql/lease/rescue.sql.
create function pgqueue.rescue(holder uuid, most integer, allowed integer, without uuid[])
returns table (id uuid, task text, lane integer, status text, attempt integer, was_running boolean, queue text, settled text)
language plpgsql set search_path to pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    with held as materialized (
        select job_id from pgqueue.running
        where lease_id = rescue.holder and job_id <> all(rescue.without)
        order by job_id limit rescue.most for update
    ),
    taken as (
        delete from pgqueue.running
        where job_id = any(array(select job_id from held))
        returning job_id, running.lane, ready_at, position, running.attempt, losses, started_at
    ),
    judged as materialized (
        select taken.*, lease.worker, lease.version, lease.beside, job.task,
               least(taken.losses, 2147483646) + (taken.started_at is not null)::integer as losses_now,
               taken.started_at is not null and (
                   select given.allowed = 0 or coalesce(lease.beside, 0) = 0 and given.allowed <= (
                       -- The losses that it had alone; of those that nobody noted it may have been the cause.
                       select count(*)
                       from (select attempt.beside from pgqueue.attempt
                             where attempt.job_id = taken.job_id and attempt.reason = 'lost'
                             order by attempt.id desc limit greatest(taken.losses, 0)) as lost
                       where coalesce(lost.beside, 0) = 0)
                   from (select coalesce(
                       -- What is no number was not written by pgqueue, and counts as not given.
                       case when (job.options ->> 'max_losses') ~ '^[0-9]{1,20}$'
                            then (job.options ->> 'max_losses')::numeric end,
                       (select case when (setting.options ->> 'max_losses') ~ '^[0-9]{1,20}$'
                                    then (setting.options ->> 'max_losses')::numeric end
                        from pgqueue.setting
                        where setting.kind = 'task' and setting.name = job.task),
                       case when (lease.max_losses ->> job.task) ~ '^[0-9]{1,20}$'
                            then (lease.max_losses ->> job.task)::numeric end,
                       -- A consumer's, of tasks that it does not declare.
                       case when lease.receipt_of is not null and (lease.max_losses ->> '*') ~ '^[0-9]{1,20}$'
                            then (lease.max_losses ->> '*')::numeric end,
                       rescue.allowed) as allowed) as given
               ) as is_lost,
               taken.started_at is not null and taken.job_id = any(array(
                   select job_id from pgqueue.cancel_request where job_id = any(array(select job_id from held))
               )) as is_doomed
        from taken
        join pgqueue.job on job.id = taken.job_id
        join pgqueue.lease on lease.id = rescue.holder
        where job.id = any(array(select job_id from held))
    ),
    requeued as (
        insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
        select job_id, ready_at, position, judged.lane,
               case when started_at is null then judged.attempt else greatest(judged.attempt, 1) - 1 end, losses_now
        from judged where not is_lost and not is_doomed
        -- One that stands there already is pending already.
        on conflict do nothing
    ),
    ended as (
        update pgqueue.job
        set status       = case when judged.is_doomed then 'cancelled'::pgqueue.job_status
                            when judged.is_lost then 'failed' end,
            started_at   = coalesce(job.started_at, judged.started_at),
            completed_at = case when judged.is_lost or judged.is_doomed then greatest(now(), judged.started_at) end,
            attempt      = case when judged.is_lost or judged.is_doomed then judged.attempt end,
            worker       = case when judged.is_lost or judged.is_doomed then judged.worker end,
            reason       = case when judged.is_doomed then coalesce((
                select cancel_request.reason from pgqueue.cancel_request where cancel_request.job_id = job.id), 'cancelled')
                            when judged.is_lost then 'worker_lost' end,
            error        = case when judged.is_lost and not judged.is_doomed then json_build_object(
                'type', 'WorkerLost',
                'message', format('the worker was lost while it ran this job, %s times', judged.losses_now)) end
        from judged
        where job.id = judged.job_id
          and job.id = any(array(select job_id from held))
          and judged.started_at is not null
        returning job.id, case when judged.is_lost or judged.is_doomed then job.hooks end as hooks
    ),
    history as (
        -- Behind the record: see fail.
        insert into pgqueue.attempt (job_id, attempt, started_at, worker, version, reason, beside)
        select job_id, judged.attempt, started_at, worker, version, 'lost', beside
        from judged where job_id = any(array(select ended.id from ended))
    ),
    settled as materialized (
        select case when count(hooks) > 0
                    then pgqueue.settle(array_agg(ended.id) filter (where hooks is not null), bit_or(hooks)) end::text as settled
        from ended
    )
    select judged.job_id, judged.task, judged.lane,
           case when is_doomed then 'cancelled' when is_lost then 'failed' else 'pending' end, judged.attempt,
           started_at is not null,
           (select lane.queue from pgqueue.lane where lane.id = judged.lane),
           settled.settled
    from judged cross join settled;
end
$$;

-- Do what a consumer waits for where no worker does it: jobs whose receipts have run out return, what is due becomes
-- pending, and limits go on. Nothing that fails here keeps others from what can be received; a worker says what it was.
create function pgqueue.attend_receivers(in_queue text) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    expired uuid;
    gated uuid[];
    lanes integer[];
begin
    for expired in
        select lease.id from pgqueue.lease
        where lease.receipt_of is not null and lease.expires_at <= clock_timestamp()
        order by lease.expires_at limit 100 for update skip locked
    loop
        begin
            update pgqueue.lease set beside = 0 where lease.id = expired and lease.beside is null;
            perform from pgqueue.rescue(expired, 100, 3, '{}');
            delete from pgqueue.lease where lease.id = expired;
        exception when others then
            null;
        end;
    end loop;
    begin
        with due as materialized (
            select job_id from pgqueue.scheduled where scheduled_at <= now() order by scheduled_at limit 100
            for update skip locked
        ),
        moved as (
            delete from pgqueue.scheduled
            where job_id = any(array(select job_id from due))
            returning job_id, scheduled_at, lane, attempt, losses, scheduled.gated
        ),
        queued as (
            insert into pgqueue.ready (job_id, lane, attempt, losses)
            select job_id, lane, attempt, losses from moved order by scheduled_at, job_id
            on conflict do nothing
        )
        select array_agg(job_id) into gated from moved where moved.gated;
        if gated is not null then
            perform pgqueue.gate_in(gated);
        end if;
    exception when others then
        null;
    end;
    lanes := array(select lane.id from pgqueue.lane where lane.queue = in_queue);
    begin
        if exists (select from pgqueue.window_lane where window_lane.lane = any(lanes)) then
            perform from pgqueue.refill(lanes, gen_random_uuid(), 16, 10);
        end if;
        if exists (select from pgqueue.note) then
            perform from pgqueue.attend(null, 100);
        end if;
    exception when others then
        null;
    end;
end
$$;

-- As the owner, like those that end them: a role may receive and end jobs that reads and writes no table.
--
-- Receive up to `n` pending jobs of a queue: they run under a receipt each, for `lease`, and return to the queue if it
-- has not been acknowledged or extended by then. Higher priorities come first, then the oldest. Jobs that have expired
-- end here, and those of paused tasks are put aside. A random `call` makes it safe to ask again where the answer was
-- lost: with `again`, what the first call has received is returned. In a transaction that goes on, pass upkeep => false: what others
-- wait for would be held for as long. Until it ends, a pause waits for it.
create function pgqueue.receive(
    queue text,
    n integer default 1,
    lease interval default '30 seconds',
    receiver text default null,
    upkeep boolean default true,
    version text default null,
    max_losses json default null,
    call uuid default null,
    again boolean default false)
returns table (
    id uuid, receipt uuid, task text, arguments json, attempt integer, receive_count integer, priority integer,
    tags text[], headers json, key text, enqueued_at timestamptz, held_until timestamptz,
    options json, task_options json, waited double precision, age double precision)
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    lanes integer[];
    paused_tasks text[];
    found_one record;
    taken_ids uuid[] := '{}';
    receipts uuid[] := '{}';
    hooked integer;
    wanted integer := n;
    was_attended boolean := not coalesce(upkeep, true);
    any_taken boolean;
    who text := coalesce(receiver, nullif(current_setting('application_name'), ''), session_user::text);
begin
    if queue is null or n is null or lease is null then
        raise exception 'pgqueue.receive: queue, n and lease must not be null' using errcode = 'invalid_parameter_value';
    end if;
    perform pgqueue.check_text('pgqueue.receive: queue', queue, 200, 1);
    perform pgqueue.check_text('pgqueue.receive: receiver', receiver, 200, 1);
    perform pgqueue.check_text('pgqueue.receive: version', version, 200, 0);
    perform pgqueue.check_text('pgqueue.receive: max_losses', max_losses::text, 100000, 2);
    if n not between 1 and 1000 then
        raise exception 'pgqueue.receive: n must be from 1 to 1000, got %', n using errcode = 'invalid_parameter_value';
    end if;
    perform pgqueue.check_receipt_time('pgqueue.receive', lease);
    if again and call is not null then
        receipts := array(select md5(call::text || ' ' || number)::uuid from generate_series(1, n) as number);
        taken_ids := array(select held.receipt_of from pgqueue.lease as held where held.id = any(receipts));
        if taken_ids <> '{}' then
            -- As if there were none left to ask for.
            wanted := 0;
        end if;
    end if;
    -- A pause waits for whoever holds this; who gets it after the pause sees it.
    lock table pgqueue.lane in row exclusive mode;
    if not was_attended and exists (
        select from pgqueue.lease as held where held.receipt_of is not null and held.expires_at <= clock_timestamp()
        union all
        select from pgqueue.scheduled where scheduled_at <= now()
        union all
        -- Workers attend to notes. Where there are none, limits would stand still while there are other jobs.
        select from pgqueue.note
        where not exists (select from pgqueue.lease as alive where alive.receipt_of is null and alive.expires_at > now())
    ) then
        perform pgqueue.attend_receivers(queue);
    end if;
    paused_tasks := array(select setting.name from pgqueue.setting where setting.kind = 'task' and setting.paused_at is not null);
    lanes := array(
        select lane.id from pgqueue.lane
        where lane.queue = receive.queue and not lane.paused
          and (lane.removed_at is null or lane.removed_at > now() - interval '1 hour')
        order by lane.priority desc, lane.task, lane.id);
    -- Again for as many as were not to be received, a few times: the next call finds more.
    for round in 1 .. 20 loop
        exit when wanted = 0;
        any_taken := false;
        for found_one in
            with chosen as materialized (
                select candidate.job_id
                from unnest(lanes) with ordinality as walk (lane, turn)
                cross join lateral (
                    select ready.job_id from pgqueue.ready
                    where ready.lane = walk.lane order by ready.position limit wanted for update skip locked
                ) as candidate
                limit wanted
            ),
            taken as (
                delete from pgqueue.ready
                where job_id = any(array(select job_id from chosen))
                returning job_id, ready_at, position, ready.lane, ready.attempt, losses
            )
            select taken.*, job.task, job.expires_at <= now() as is_expired, job.task = any(paused_tasks) as is_paused,
                   lane.priority as priority
            from pgqueue.job
            join taken on taken.job_id = job.id
            join pgqueue.lane on lane.id = taken.lane
            where job.id = any(array(select job_id from chosen))
            order by lane.priority desc, taken.position
        loop
            any_taken := true;
            if found_one.is_paused then
                insert into pgqueue.lane as aside (queue, priority, task)
                select receive.queue, found_one.priority, found_one.task
                where not exists (
                    select from pgqueue.lane
                    where lane.queue = receive.queue and lane.priority = found_one.priority
                      and lane.task = found_one.task and lane.removed_at is null)
                on conflict on constraint lane_queue_priority_task_key
                do update set removed_at = null, idle_since = null;
                insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
                select found_one.job_id, found_one.ready_at, found_one.position, lane.id, found_one.attempt, found_one.losses
                from pgqueue.lane
                where lane.queue = receive.queue and lane.priority = found_one.priority and lane.task = found_one.task;
            elsif found_one.is_expired then
                update pgqueue.job
                set status = 'expired', completed_at = now(), attempt = nullif(found_one.attempt, 0), reason = 'expired',
                    worker = who
                where job.id = found_one.job_id
                returning job.hooks into hooked;
                if hooked is not null then
                    perform pgqueue.settle(array[found_one.job_id], hooked);
                end if;
            else
                wanted := wanted - 1;
                receipt := case when call is null then gen_random_uuid()
                                else md5(call::text || ' ' || (n - wanted))::uuid end;
                receipts := receipts || receipt;
                taken_ids := taken_ids || found_one.job_id;
                insert into pgqueue.lease (id, worker, queues, expires_at, receipt_of, tasks, version, max_losses)
                values (receipt, who, array[receive.queue], clock_timestamp() + receive.lease, found_one.job_id, '{}',
                        receive.version, coalesce(receive.max_losses, '{}'));
                insert into pgqueue.running (job_id, lease_id, ready_at, started_at, position, lane, attempt, losses)
                values (found_one.job_id, receipt, found_one.ready_at, now(), found_one.position, found_one.lane,
                        found_one.attempt + 1, found_one.losses);
            end if;
        end loop;
        if not any_taken then
            exit when was_attended or wanted < n;
            -- Nothing is locked here yet but what is received by nobody else.
            was_attended := true;
            perform pgqueue.attend_receivers(queue);
        end if;
    end loop;
    return query
    select running.job_id, held.id, job.task, job.arguments, running.attempt,
           least(running.attempt::bigint + running.losses, 2147483647)::integer, lane.priority::integer, job.tags,
           job.headers, job.key, job.created_at, held.expires_at, job.options,
           (select setting.options from pgqueue.setting where setting.kind = 'task' and setting.name = job.task),
           extract(epoch from now())::float8 - extract(epoch from running.ready_at)::float8,
           extract(epoch from now())::float8 - extract(epoch from job.started_at)::float8
    from pgqueue.running
    join pgqueue.job on job.id = running.job_id
    join pgqueue.lease as held on held.id = running.lease_id
    join pgqueue.lane on lane.id = running.lane
    where running.job_id = any(taken_ids) and job.id = any(taken_ids) and held.id = any(receipts)
    order by lane.priority desc, running.position;
end
$$;

-- Raise unless a receipt can be for this time.
create function pgqueue.check_receipt_time(what text, lease interval) returns void
language plpgsql immutable set search_path to pg_catalog, pg_temp as $$
begin
    if lease not between interval '0.1 seconds' and interval '12 hours' or lease is null then
        raise exception '%: lease must be from 0.1 seconds to 12 hours, got %', what, lease
            using errcode = 'invalid_parameter_value';
    end if;
end
$$;

-- End a received job under its receipt: 'succeeded', 'failed', 'scheduled' (to run again) or 'pending' (returned, and the
-- attempt does not count). Answers what has become of it: 'cancelled' unless it has succeeded, if that was asked for;
-- null: the receipt has run out or was never given, and nothing has changed. `settled`: see settle. With `hand_over`, a
-- limit goes on with this; the transaction has to end then.
create function pgqueue.end_receipt(
    id uuid, receipt uuid, outcome text, result json default null, delay interval default null,
    not_before timestamptz default null, reason text default null, error json default null, spent boolean default true,
    hand_over boolean default false, new_options json default null, new_arguments json default null,
    out answer text, out settled json)
language plpgsql set search_path to pg_catalog, pg_temp as $$
declare
    given record;
    held record;
    doomed text;
    hooked integer;
begin
    if outcome not in ('succeeded', 'failed', 'scheduled', 'pending') or outcome is null then
        raise exception 'pgqueue.end_receipt: unknown outcome %', left(outcome, 100)
            using errcode = 'invalid_parameter_value';
    end if;
    perform pgqueue.check_text('pgqueue.end_receipt: reason', end_receipt.reason, 1000, 0);
    perform pgqueue.check_text('pgqueue.end_receipt: new_options', end_receipt.new_options::text, 100000, 2);
    -- Who finds it here keeps the rescue away until the end of the transaction.
    select lease.worker, lease.version into given
    from pgqueue.lease
    where lease.id = end_receipt.receipt and lease.receipt_of = end_receipt.id and lease.expires_at > clock_timestamp()
    for update;
    if not found then
        return;
    end if;
    delete from pgqueue.running
    where running.job_id = end_receipt.id and running.lease_id = end_receipt.receipt
    returning running.* into held;
    if not found then
        return;
    end if;
    delete from pgqueue.lease where lease.id = end_receipt.receipt;
    answer := outcome;
    if outcome <> 'succeeded' then
        select coalesce(cancel_request.reason, 'cancelled') into doomed
        from pgqueue.cancel_request where cancel_request.job_id = end_receipt.id;
        if found then
            answer := 'cancelled';
        end if;
    end if;
    if answer = 'scheduled' then
        insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt, losses)
        values (held.job_id, greatest(now() + delay, not_before, now()), held.lane, held.attempt - (not spent)::integer, held.losses);
        update pgqueue.job
        set started_at = coalesce(job.started_at, held.started_at),
            options    = coalesce(new_options, job.options),
            arguments  = coalesce(new_arguments, job.arguments)
        where job.id = held.job_id
        returning nullif(job.hooks & 4, 0) into hooked;
    elsif answer = 'pending' then
        insert into pgqueue.ready (job_id, ready_at, position, lane, attempt, losses)
        values (held.job_id, held.ready_at, held.position, held.lane, greatest(held.attempt, 1) - 1, held.losses);
    else
        update pgqueue.job
        set status       = answer::pgqueue.job_status,
            started_at   = coalesce(job.started_at, held.started_at),
            last_started_at = case when answer = 'succeeded' and job.started_at is not null then held.started_at end,
            completed_at = greatest(statement_timestamp(), held.started_at),
            attempt      = held.attempt,
            worker       = given.worker,
            result       = case when answer = 'succeeded' then end_receipt.result end,
            reason       = case answer when 'failed' then end_receipt.reason when 'cancelled' then doomed end,
            error        = case when answer = 'failed' then end_receipt.error end
        where job.id = held.job_id
        returning job.hooks into hooked;
    end if;
    if answer <> 'succeeded' then
        -- Behind the record: see fail.
        insert into pgqueue.attempt (job_id, attempt, started_at, worker, version, reason, error)
        values (held.job_id, held.attempt, held.started_at, given.worker, given.version,
                case when answer = 'cancelled' and outcome = 'pending' then answer else coalesce(end_receipt.reason, 'released') end,
                end_receipt.error);
    end if;
    if hooked is not null then
        settled := case when hand_over and answer = 'succeeded'
                        then pgqueue.settle_and_hand_over(array[held.job_id], hooked)
                        else pgqueue.settle(array[held.job_id], hooked) end;
    end if;
end
$$;

-- Tell workers that listen what the end of a received job has left for them.
create function pgqueue.tell_settled(settled json) returns void
language plpgsql set search_path to pg_catalog, pg_temp as $$
begin
    if settled is null or pg_notification_queue_usage() >= 0.9::float8 then
        return;
    end if;
    perform pg_notify('pgqueue', 'attend') where json_array_length(settled -> 'notes') > 0;
    perform pg_notify('pgqueue', 'ready ' || lane) from json_array_elements_text(settled -> 'lanes') as lane;
end
$$;

-- Acknowledge a received job: it has succeeded. False: the receipt has run out, or never was one of this job; nothing
-- has changed, and the job may be running elsewhere.
create function pgqueue.ack(id uuid, receipt uuid, result json default null) returns boolean
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
declare
    ended record;
begin
    if octet_length(ack.result::text) > 1048576 then
        raise exception 'pgqueue.ack: the result has % bytes: give at most 1048576', octet_length(ack.result::text)
            using errcode = 'invalid_parameter_value';
    end if;
    select * into ended from pgqueue.end_receipt(ack.id, ack.receipt, 'succeeded', ack.result);
    perform pgqueue.tell_settled(ended.settled);
    return ended.answer is not null;
end
$$;

-- Give a received job back because it could not be done: the attempt has failed, and the job runs again after `delay`
-- (null: after an exponential backoff), or has failed if it had no more retries. Answers 'scheduled', 'failed', or
-- 'cancelled' if that was asked for; null: the receipt has run out, or never was one of this job, and nothing has
-- changed. Retries are those that the job's call set, or an operator for its task, or else 3: what code declares for
-- its task is not known here.
create function pgqueue.nack(id uuid, receipt uuid, delay interval default null, error text default null) returns text
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
declare
    spent integer;
    retries json;
    ended record;
    is_last boolean;
begin
    perform pgqueue.check_text('pgqueue.nack: error', nack.error, 1000, 0);
    if nack.delay not between interval '0' and interval '3650 days' then
        raise exception 'pgqueue.nack: delay must be from 0 to 3650 days, got %', nack.delay
            using errcode = 'invalid_parameter_value';
    end if;
    select running.attempt into spent from pgqueue.running
    where running.job_id = nack.id and running.lease_id = nack.receipt;
    if not found then
        return null;
    end if;
    select coalesce(
        (select job.options -> 'max_retries' from pgqueue.job where job.id = nack.id),
        (select setting.options -> 'max_retries' from pgqueue.setting
         where setting.kind = 'task' and setting.name = (select job.task from pgqueue.job where job.id = nack.id)),
        '3') into retries;
    -- JSON null: there is no limit. What is no number was not written by pgqueue, and counts as not given.
    is_last := case json_typeof(retries) when 'null' then false when 'number' then spent > (retries #>> '{}')::numeric
                                         else spent > 3 end;
    select * into ended from pgqueue.end_receipt(
        nack.id, nack.receipt, case when is_last then 'failed' else 'scheduled' end,
        delay => coalesce(nack.delay, make_interval(secs => random() * 2.0::float8 ^ least(spent - 1, 9))),
        reason => 'nacked',
        error => json_build_object('type', 'Nacked', 'message', coalesce(nack.error, 'the consumer gave it back')));
    perform pgqueue.tell_settled(ended.settled);
    return ended.answer;
end
$$;

-- Hold a received job for `lease` from now on. Answers 'extended'; 'cancelled': the job is to be cancelled, so stop, and
-- give it back by nack; null: the receipt has run out, or never was one of this job.
create function pgqueue.extend(id uuid, receipt uuid, lease interval) returns text
language plpgsql security definer set search_path to pg_catalog, pg_temp as $$
begin
    perform pgqueue.check_receipt_time('pgqueue.extend', extend.lease);
    perform from pgqueue.lease as held
    where held.id = extend.receipt and held.receipt_of = extend.id and held.expires_at > clock_timestamp()
    for update;
    if not found or not exists (
        select from pgqueue.running where running.job_id = extend.id and running.lease_id = extend.receipt
    ) then
        return null;
    end if;
    if exists (select from pgqueue.cancel_request where cancel_request.job_id = extend.id) then
        return 'cancelled';
    end if;
    update pgqueue.lease as held
    set expires_at = clock_timestamp() + extend.lease, renewed_at = clock_timestamp()
    where held.id = extend.receipt;
    return 'extended';
end
$$;

-- What runs as the owner is not everybody's. Roles that have been granted the tables by hand keep it.
do $$
declare
    definer regprocedure;
    grantee text;
begin
    for definer in
        select oid::regprocedure from pg_proc
        where pronamespace = 'pgqueue'::regnamespace and prosecdef and proname in ('receive', 'ack', 'nack', 'extend')
    loop
        execute format('revoke execute on function %s from public', definer);
        for grantee in
            select distinct case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end
            from pg_class cross join lateral aclexplode(relacl) as acl
            where pg_class.oid = 'pgqueue.job'::regclass and acl.privilege_type = 'INSERT'
              and acl.grantee <> relowner
        loop
            execute format('grant execute on function %s to %s', definer, grantee);
        end loop;
    end loop;
end
$$;
