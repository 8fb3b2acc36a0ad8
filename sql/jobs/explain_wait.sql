-- explain_wait: what job $1 waits for, if it waits, counting what is before it to $2.
--
-- By keys alone.
--
-- No row: there is no such job, or it is not waiting.

with here as materialized (
    select job.id, job.task, job.gates, job.workflow_id, lane.id as lane, lane.queue, lane.priority, lane.task as aside,
           case when ready.job_id is not null then 'ready' when running.job_id is not null then 'prefetched'
                when scheduled.job_id is not null then 'scheduled' else 'blocked' end as stands,
           ready.position, running.lease_id, scheduled.scheduled_at, coalesce(scheduled.attempt, blocked.attempt) as attempt,
           blocked.blocked_at, blocked.waits_for, blocked.wake_at, blocked.waits as event, blocked.gate, blocked.turn
    from pgqueue.job
    left join pgqueue.ready on ready.job_id = job.id
    left join pgqueue.running on running.job_id = job.id and running.started_at is null
    left join pgqueue.scheduled on scheduled.job_id = job.id
    left join pgqueue.blocked on blocked.job_id = job.id
    left join pgqueue.lane
        on lane.id = coalesce(ready.lane, running.lane, scheduled.lane, blocked.lane, job.lane)
    where job.id = $1 and job.status is null
      and coalesce(ready.job_id, running.job_id, scheduled.job_id, blocked.job_id) is not null
)
select here.stands, here.task, here.queue, here.aside <> '' as is_aside, here.scheduled_at, here.attempt, here.blocked_at,
       here.waits_for, here.wake_at, here.event, statement_timestamp() as now,
       (select setting.paused_at from pgqueue.setting where setting.kind = 'queue' and setting.name = here.queue) as queue_paused_at,
       (select setting.paused_at from pgqueue.setting where setting.kind = 'task' and setting.name = here.task) as task_paused_at,
       (select workflow.paused_at from pgqueue.workflow where workflow.id = here.workflow_id) as workflow_paused_at,
       (select lease.worker from pgqueue.lease where lease.id = here.lease_id) as prefetched_by,
       exists (select from pgqueue.lease where lease.expires_at > now() and here.queue = any(lease.queues)) as is_served,
       exists (
           select from pgqueue.lease
           where lease.expires_at > now() and here.queue = any(lease.queues)
             and (lease.tasks is null or here.task = any(lease.tasks))) as is_known,
       (select attempt.reason from pgqueue.attempt
        where attempt.job_id = here.id and here.stands = 'scheduled' order by attempt.id desc limit 1) as last_reason,
       case when here.stands = 'ready' then (
           select count(*) from (
               select from pgqueue.lane
               cross join lateral (
                   select from pgqueue.ready
                   where ready.lane = lane.id and (lane.id <> here.lane or ready.position < here.position)
                   order by ready.position limit $2
               ) as first
               where lane.queue = here.queue and lane.removed_at is null and lane.task = ''
                 and (lane.id = here.lane or lane.priority > here.priority)
               limit $2
           ) as before) end as before,
       barrier.total, barrier.open,
       link.upstream as link, link.position as link_position, joined.total as join_total, joined.open as join_open,
       gate.name as limit_name, gate.key as limit_key, coalesce(rule.kind, 'slots') as limit_kind, rule.slots, rule.rate, rule.burst,
       case when here.gate is not null then (
           select count(*) from (
               select from pgqueue.gate_pass where gate_pass.gate = here.gate order by gate_pass.job_id limit $2
           ) as held) end as in_use,
       case when here.gate is not null then (
           with recursive found (lane) as (
               (select blocked.lane from pgqueue.blocked where blocked.gate = here.gate order by blocked.lane limit 1)
               union all
               select (select blocked.lane from pgqueue.blocked
                       where blocked.gate = here.gate and blocked.lane > found.lane order by blocked.lane limit 1)
               from found where found.lane is not null
           )
           select count(*) from (
               select from (
                   select found.lane from found
                   where (select lane.paused from pgqueue.lane where lane.id = found.lane) is not true limit 100
               ) as of_gate
               cross join lateral (
                   select from pgqueue.blocked
                   where blocked.gate = here.gate and blocked.lane = of_gate.lane and blocked.turn < here.turn
                   order by blocked.turn limit $2
               ) as first
               limit $2
           ) as turns) end as turns_before,
       state.closed_until, halt.job_id as stopped_by, halt.is_halted
from here
left join lateral (select * from pgqueue.barrier where barrier.id = here.id and barrier.state is null offset 0) as barrier on true
left join lateral (
    select edge.upstream, edge.position from pgqueue.edge
    where edge.downstream = here.id and edge.outcome is null and edge.direct
    order by edge.position limit 1
) as link on here.stands = 'blocked'
left join lateral (
    select * from pgqueue.barrier where barrier.id = link.upstream and barrier.is_join and barrier.state is null offset 0
) as joined on true
left join lateral (
    select here.gates[2 * number - 1] as name, here.gates[2 * number] as key
    from generate_series(1, cardinality(here.gates) / 2) as number
    where pgqueue.key_id(here.gates[2 * number - 1], here.gates[2 * number]) = here.gate
    limit 1
) as gate on true
left join pgqueue.limit_rule as rule on rule.name = gate.name
left join lateral (
    select gate_state.at + make_interval(secs => gate_state.closed) as closed_until from pgqueue.gate_state
    where gate_state.gate = here.gate order by gate_state.number desc limit 1
) as state on true
left join lateral (
    select stopped.job_id,
           exists (select from pgqueue.stopped as other where other.gate = here.gate and other.halts) as is_halted
    from pgqueue.stopped
    where stopped.gate = here.gate and (stopped.halts or stopped.turn < here.turn)
    order by stopped.turn limit 1
) as halt on here.gate is not null
