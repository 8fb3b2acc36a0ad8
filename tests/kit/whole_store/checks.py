"""What must hold of the database after each commit, and what may be left once all jobs are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kit.whole_store.clock import TABLES

if TYPE_CHECKING:
    from conftest import Connection

STANDS: Final = """
    select job_id, 'ready' as place, lane from pgqueue.ready
    union all select job_id, 'running', lane from pgqueue.running
    union all select job_id, 'scheduled', lane from pgqueue.scheduled
    union all select job_id, 'blocked', lane from pgqueue.blocked
"""
THROUGH: Final = """
    select job_id from pgqueue.ready union all select job_id from pgqueue.running
"""
PASSES: Final = """
    select job.id, job.gates, gate.gate as waits_behind,
           array(select gate from pgqueue.gate_pass where job_id = job.id order by gate) as passes,
           array(select pgqueue.key_id(job.gates[number], job.gates[number + 1])
                 from generate_series(1, coalesce(cardinality(job.gates), 0), 2) as number
                 where (select kind from pgqueue.limit_rule where name = job.gates[number])
                       is not distinct from 'slots'
                 order by 1) as wanted,
           array(select pgqueue.key_id(job.gates[number], job.gates[number + 1])
                 from generate_series(1, coalesce(cardinality(job.gates), 0), 2) as number) as own,
           exists (select from pgqueue.ready where job_id = job.id)
           or exists (select from pgqueue.running where job_id = job.id) as is_through
    from pgqueue.job left join pgqueue.blocked as gate on gate.job_id = job.id
"""
CHECKS: Final = {
    "a job is in more than one place":
        f"select job_id from ({STANDS}) as stands group by job_id having count(*) > 1",
    "a job that has not ended is in no place":
        f"select id from pgqueue.job where status is null "
        f"and id not in (select job_id from ({STANDS}) as stands)",
    "a job that has ended is in a place":
        f"select id from pgqueue.job where status is not null "
        f"and id in (select job_id from ({STANDS}) as stands)",
    "a place is that of no job":
        f"select job_id from ({STANDS}) as stands "
        "where not exists (select from pgqueue.job where id = job_id)",
    "a place is in no lane":
        f"select job_id from ({STANDS}) as stands "
        "where not exists (select from pgqueue.lane where id = lane)",
    "a job runs under no lease":
        "select job_id from pgqueue.running where not exists (select from pgqueue.lease where id = lease_id)",
    "a dead letter has not failed":
        "select job_id from pgqueue.dead_letter "
        "where not exists (select from pgqueue.job where id = job_id and status = 'failed')",
    "a job has failed, and is neither a dead letter nor discarded":
        "select id from pgqueue.job where status = 'failed' "
        "and not exists (select from pgqueue.dead_letter where job_id = job.id) "
        # A line that is told to go on past a job says nothing of what became of the job.
        "and (select action from pgqueue.action where job_id = job.id and action <> 'key_resumed' "
        "     order by action.id desc limit 1) is distinct from 'discarded'",
    "an ended job has no time of its end, or a live one has":
        "select id from pgqueue.job where (status is null) <> (completed_at is null)",
    "a job that is through holds not all that it passed":
        f"select id from ({PASSES}) as held where is_through and not (passes @> wanted and passes <@ own)",
    "a job that has ended or waits elsewhere holds what others wait for":
        f"select held.id from ({PASSES}) as held where not is_through and waits_behind is null "
        "and exists (select from pgqueue.gate_pass where job_id = held.id and kept is null)",
    "a job waits behind what it holds, or is not to pass":
        f"select id from ({PASSES}) as held where waits_behind is not null "
        "and (waits_behind = any(passes) or gates is null)",
    "a limit counts what nobody holds, or not what somebody does":
        "select gate from (select distinct on (gate) gate, in_use from pgqueue.gate_state "
        "                  order by gate, number desc) as newest "
        "where in_use <> (select count(*) from pgqueue.gate_pass where gate_pass.gate = newest.gate) "
        "  + coalesce((select sum(released) from pgqueue.note where node_id = newest.gate), 0)",
    "two jobs of an ordered key are let through":
        f"select gate from pgqueue.gate_pass where kept and job_id in ({THROUGH}) "
        "group by gate having count(*) > 1",
    "a barrier counts other than its edges":
        "select barrier.id from pgqueue.barrier cross join lateral ("
        "  select count(*) as edges, count(*) filter (where outcome is null) as open, "
        "         count(*) filter (where outcome <> 'succeeded') as failed "
        "  from pgqueue.edge where downstream = barrier.id) as counted "
        "where counted.edges = barrier.total "
        "and (barrier.open, barrier.failed) <> (counted.open, counted.failed)",
    "something is kept of a job that there is not":
        "select job_id from (select job_id from pgqueue.attempt union all select job_id from pgqueue.step "
        "  union all select job_id from pgqueue.progress union all select job_id from pgqueue.event "
        "  union all select job_id from pgqueue.dead_letter union all select job_id from pgqueue.stopped "
        "  union all select job_id from pgqueue.cancel_request "
        "  union all select job_id from pgqueue.gate_pass) "
        "as kept where not exists (select from pgqueue.job where id = job_id)",
    "an attempt is counted twice":
        "select job_id from pgqueue.attempt where started_at is not null "
        "group by job_id, started_at, attempt having count(*) > 1",
}  # fmt: skip
"""What may never be, in words, and the rows that it is true of."""

LASTING: Final = frozenset({
    "bulk", "chore", "ended_session", "lane", "lease", "limit_rule", "mass_redrive", "schedule", "setting",
    "stat", "tick", "web_secret", "window_weight", "workflow_tally",
})  # fmt: skip
"""Tables whose rows are of no job: settings, and what is kept for a time. The others empty with the jobs."""


async def violations(connection: Connection) -> list[str]:
    """Return what of CHECKS does not hold, with the rows. In one statement, so at one moment."""
    parts = [
        f"select '{name}' as name, array(select each::text from ({sql}) as each limit 5) as found"
        for name, sql in CHECKS.items()
    ]
    rows = await connection.fetch(
        "select * from (" + " union all ".join(parts) + ") as checks where found <> '{}'"
    )
    return [f"{row['name']}: {', '.join(row['found'])}" for row in rows]


async def left_over(connection: Connection) -> list[str]:
    """Return the tables that have rows though there is no job any more."""
    names = [row["name"] for row in await connection.fetch(TABLES)]
    kept = [name for name in names if name.removeprefix("pgqueue.") not in LASTING]
    rows = await connection.fetch(
        " union all ".join(f"select '{name}' as name, count(*) as rows from {name}" for name in kept)
    )
    return [f"{row['name']} has {row['rows']} rows" for row in rows if row["rows"]]
