-- advance_ids: advance the sequences that are behind their tables, as after a restore or a failover that did not bring
-- them along; returns the tables' names.
--
-- A new row would get the number of another one, and be refused, or be taken for the older one. The history is too
-- long to be read whole each time: whether its sequence is behind shows in some sixteen pages of it, and only then it is.
-- Nothing is done where this role may not do it.

with top as (
    select 'lane' as name, max(id)::bigint as id from pgqueue.lane
    union all
    select 'note', max(id) from pgqueue.note
    union all
    select 'event', max(id) from pgqueue.event
    union all
    select 'attempt', max(id) from pgqueue.attempt
    tablesample system (least(100, 1600 * 8192.0 / greatest(pg_relation_size('pgqueue.attempt'), 1)))
    union all
    select 'action', max(id) from pgqueue.action
    tablesample system (least(100, 1600 * 8192.0 / greatest(pg_relation_size('pgqueue.action'), 1)))
),
counted as materialized (
    select name, id, pg_get_serial_sequence('pgqueue.' || name, 'id')::regclass as counter from top
),
behind as materialized (
    select name, counter, id
    from counted
    where case
        when has_sequence_privilege(counter, 'UPDATE') and has_sequence_privilege(counter, 'SELECT')
        then coalesce(pg_sequence_last_value(counter), 0) < id
    end
)
select name, setval(counter, case name
    when 'attempt' then (select max(id) from pgqueue.attempt)
    when 'action' then (select max(id) from pgqueue.action)
    else id end) as now
from behind
