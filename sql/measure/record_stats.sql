-- record_stats: store what a process did: $1 is an array of objects, one per queue, with the columns of `stat`.
--
-- Each has an id, so that a repeated attempt whose first answer was lost counts once.

insert into pgqueue.stat (
    id, seconds, queue, enqueued, claimed, succeeded, failed, cancelled, expired, retried, lost, waits, runs,
    first_wait, first_run
)
select id, seconds, queue, enqueued, claimed, succeeded, failed, cancelled, expired, retried, lost, waits, runs,
       first_wait, first_run
from json_to_recordset($1::json) as done (
    id uuid, seconds float8, queue text, enqueued integer, claimed integer, succeeded integer, failed integer,
    cancelled integer, expired integer, retried integer, lost integer, waits integer[], runs integer[],
    first_wait float8, first_run float8
)
on conflict (id) do nothing
