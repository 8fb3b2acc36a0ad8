-- advance_lane_ids: advance the sequence of lanes where it is behind its table, as after a restore or a failover that
-- did not bring it along; returns whether it was.
--
-- A new lane would get the number of another one, and be refused. Nothing is done where this role may not do it.

with behind as materialized (
    select pg_get_serial_sequence('pgqueue.lane', 'id')::regclass as counter,
           (select max(id)::bigint from pgqueue.lane) as most
)
select setval(counter, most) is not null as is_advanced
from behind
where case
    when has_sequence_privilege(counter, 'UPDATE') and has_sequence_privilege(counter, 'SELECT')
    then coalesce(pg_sequence_last_value(counter), 0) < most
end
