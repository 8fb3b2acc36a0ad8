-- list_limit_jobs: the first $3 jobs that key $2 of limit $1 has let through, and the first $3 that wait for it, in their
-- turn. In more than one lane, each is by its turn among those that are first in their lanes.

select array(
           select gate_pass.job_id from pgqueue.gate_pass
           where gate_pass.gate = pgqueue.key_id($1, $2) order by gate_pass.job_id limit $3
       ) as holders,
       array(
           with recursive found (lane) as (
               (select blocked.lane from pgqueue.blocked
                where blocked.gate = pgqueue.key_id($1, $2) order by blocked.lane limit 1)
               union all
               select (select blocked.lane from pgqueue.blocked
                       where blocked.gate = pgqueue.key_id($1, $2) and blocked.lane > found.lane
                       order by blocked.lane limit 1)
               from found where found.lane is not null
           )
           select first.job_id
           from (select found.lane from found where found.lane is not null limit 100) as of_key
           cross join lateral (
               select blocked.job_id, blocked.turn from pgqueue.blocked
               where blocked.gate = pgqueue.key_id($1, $2) and blocked.lane = of_key.lane
               order by blocked.turn limit $3
           ) as first
           order by first.turn limit $3
       ) as waiting
