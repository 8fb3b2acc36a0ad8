-- Four roles for schema pgqueue. None can log in: grant them to users that can.
--
--     pgqueue_enqueue   enqueues, by SQL and from programs. It reads no table and changes no other job.
--     pgqueue_receive   receives jobs by SQL and ends those that it has received. It reads no table and changes no other job.
--     pgqueue_worker    runs workers, enqueues, and operates queues and jobs. It does not own the tables.
--     pgqueue_read      reads everything, arguments and results included, and changes nothing.
--
-- Run this as the owner of the schema or as a superuser, and again after each migration: it changes nothing that is
-- as it should be. The roles may exist already, where the owner may not create roles.

begin;

do $$
declare
    name text;
begin
    foreach name in array array['pgqueue_enqueue', 'pgqueue_receive', 'pgqueue_worker', 'pgqueue_read'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
    end loop;
end
$$;

-- What an earlier version of this granted and this one does not.
revoke all on all tables in schema pgqueue from pgqueue_enqueue, pgqueue_receive, pgqueue_worker, pgqueue_read;
revoke all on all sequences in schema pgqueue from pgqueue_enqueue, pgqueue_receive, pgqueue_worker, pgqueue_read;
revoke all on all functions in schema pgqueue from pgqueue_enqueue, pgqueue_receive, pgqueue_worker, pgqueue_read;
revoke all on schema pgqueue from pgqueue_enqueue, pgqueue_receive, pgqueue_worker, pgqueue_read;

grant usage on schema pgqueue to pgqueue_enqueue, pgqueue_receive, pgqueue_worker, pgqueue_read;

-- These run as the owner. They make jobs, and tell ids, whether a job was new, and how deep a queue is.
grant execute on function
    pgqueue.enqueue, pgqueue.submit, pgqueue.submit_workflow, pgqueue.write_workflow, pgqueue.lane_of, pgqueue.count_depth, pgqueue.find_existing, pgqueue.read_version,
    pgqueue.declare_limit, pgqueue.declare_ordered
    to pgqueue_enqueue;

grant execute on function
    pgqueue.receive, pgqueue.ack, pgqueue.nack, pgqueue.extend(uuid, uuid, interval)
    to pgqueue_receive;

grant select, insert, update, delete on all tables in schema pgqueue to pgqueue_worker;
revoke insert, update, delete on pgqueue.migration from pgqueue_worker;
grant usage on all sequences in schema pgqueue to pgqueue_worker;
grant execute on all functions in schema pgqueue to pgqueue_worker;

grant select on all tables in schema pgqueue to pgqueue_read;
-- A status app notes who has logged out.
grant insert, delete on pgqueue.ended_session to pgqueue_read;

-- What later migrations make, until this is run again.
do $$
declare
    owner regrole := (select relowner from pg_catalog.pg_class where oid = 'pgqueue.job'::regclass);
begin
    execute format('alter default privileges for role %s in schema pgqueue '
                   'grant select, insert, update, delete on tables to pgqueue_worker', owner);
    execute format('alter default privileges for role %s in schema pgqueue '
                   'grant usage on sequences to pgqueue_worker', owner);
    execute format('alter default privileges for role %s in schema pgqueue '
                   'grant execute on functions to pgqueue_worker', owner);
    execute format('alter default privileges for role %s in schema pgqueue '
                   'grant select on tables to pgqueue_read', owner);
end
$$;

commit;
