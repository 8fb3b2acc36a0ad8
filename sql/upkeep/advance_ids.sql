-- advance_ids: advance the sequences that are behind their tables, as after a restore or a failover that did not bring
-- them along; returns the tables' names.
--
-- A new row would get the number of another one, and be refused, or be taken for the older one. The history is too
-- long to be read whole each time: whether its sequence is behind shows in some sixteen pages of it, and only then it is.
-- A number in the upper half of what there are is no sequence's: it was written by hand. Behind it there may be none
-- left, and no job could end; a sequence that was led there is brought back.
-- Nothing is done where this role may not do it.

with top as (
    select 'lane' as name, max(id)::bigint as id, (1 << 30)::bigint as half from pgqueue.lane where id < (1 << 30)
    union all
    select 'note', max(id), 1::bigint << 62 from pgqueue.note where id < 1::bigint << 62
    union all
    select 'event', max(id), 1::bigint << 62 from pgqueue.event where id < 1::bigint << 62
    union all
    select 'attempt', max(id), 1::bigint << 62 from pgqueue.attempt
    tablesample system (least(100, 1600 * 8192.0 / greatest(pg_relation_size('pgqueue.attempt'), 1)))
    where id < 1::bigint << 62
    union all
    select 'action', max(id), 1::bigint << 62 from pgqueue.action
    tablesample system (least(100, 1600 * 8192.0 / greatest(pg_relation_size('pgqueue.action'), 1)))
    where id < 1::bigint << 62
),
counted as materialized (
    select name, coalesce(id, 0) as id, half, pg_get_serial_sequence('pgqueue.' || name, 'id')::regclass as counter
    from top
),
wrong as materialized (
    select name, counter, id
    from counted
    where case
        when has_sequence_privilege(counter, 'UPDATE') and has_sequence_privilege(counter, 'SELECT')
        then coalesce(pg_sequence_last_value(counter), 0) not between id and half
    end
)
select name, setval(counter, greatest(1, case name
    when 'attempt' then (select max(id) from pgqueue.attempt where id < 1::bigint << 62)
    when 'action' then (select max(id) from pgqueue.action where id < 1::bigint << 62)
    else id end)) as now
from wrong
