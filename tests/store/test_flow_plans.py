"""What flow control reads: rows by index, however much waits, and whatever the statistics say.

Counts of buffers, not times. PGQUEUE_PLAN_JOBS says beside how many jobs: by hand, try a million.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from kit.plans import BATCH, Bench, connected, freeze_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MANY = int(os.environ.get("PGQUEUE_PLAN_JOBS", "10000"))
FEW = 200
FILL = """
    with key as materialized (
        select n, n % $2 as key, pgqueue.key_id('tenant', (n % $2)::text) as gate, pgqueue.uuid7() as id
        from generate_series(1, $1) as n
    ),
    added as (
        insert into pgqueue.job (id, lane, task, arguments, hooks, gates)
        select id, 1, 'work', '{}', 4, array['tenant', key::text] from key order by n
    )
    insert into pgqueue.blocked (job_id, lane, gated, gate, turn, single)
    select id, 1, true, gate, nextval('pgqueue.position'), true from key order by n
"""
NOTE = """
    insert into pgqueue.note (node_id, kind, lane, low)
    select gate, 'gate', lane, min(turn) from pgqueue.blocked group by gate, lane
"""
EMPTY = """
    truncate pgqueue.blocked, pgqueue.ready, pgqueue.running, pgqueue.job, pgqueue.note, pgqueue.gate,
             pgqueue.gate_state, pgqueue.gate_pass
"""
FIRST = UUID(int=0)
LAST = UUID(int=2**128 - 1)


async def fill(bench: Bench, jobs: int, keys: int) -> None:
    """Have *jobs* wait for a slot of each of *keys*, and let through what may be."""
    connection = bench.connection
    await connection.execute(EMPTY)
    await connection.execute(FILL, jobs, keys, timeout=3600)
    await connection.execute(NOTE, timeout=3600)
    while (await bench.store.attend(connection, None, 1000)).taken:
        pass


async def costs(bench: Bench) -> dict[str, int]:
    """Return the buffers of what workers do at limits, and of what is shown of them."""
    connection, store = bench.connection, bench.store

    async def explain(name: str, call: Callable[[Any], Coroutine[Any, Any, object]]) -> None:
        undone = connection.transaction()
        await undone.start()
        # The first execution on a connection reads the catalogues too.
        await bench.explain(name, call)
        await undone.rollback()
        await bench.explain(name, call)

    await bench.claim_and_finish()
    notes = [row["id"] for row in await connection.fetch("select id from pgqueue.note")]
    assert notes
    waiting = await connection.fetchval("select job_id from pgqueue.blocked order by turn limit 1")
    await explain("attend", lambda it: store.attend(it, notes, 1000))
    await explain("look", lambda it: store.attend(it, None, 1000))
    await explain("sweep", lambda it: store.sweep_gates(it, FIRST, BATCH))
    await explain("limits", lambda it: store.list_limits(it, None, "", 100))
    await explain("groups", store.list_ordered)
    await explain("keys", lambda it: store.list_limit_keys(it, "tenant", LAST, 100))
    await explain("busy", lambda it: store.find_busy_keys(it, "tenant", 10))
    await explain("jobs", lambda it: store.list_limit_jobs(it, "tenant", "0", 25))
    await explain("wait", lambda it: store.explain_wait(it, waiting, 1000))
    await explain("promote", lambda it: store.promote(it, 1000))
    await bench.claim_and_finish()
    return dict(bench.costs)


BOUNDED = {"limits": 60_000, "busy": 60_000, "look": MANY // 100, "sweep": MANY // 100}
"""What looks at so many jobs and keys at most reads more where there are more, up to here.

Nothing is vacuumed, so looks and sweeps pass all notes that were.
"""


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("is_one_gate", [True, False], ids=["one gate", "a gate for every other job"])
@pytest.mark.parametrize("is_analysed", [False, True], ids=["never analysed", "analysed when few waited"])
async def test_what_waits_for_limits_is_read_by_index(
    dsn: str, *, is_one_gate: bool, is_analysed: bool
) -> None:
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute("set pgqueue.writer = on")
        await bench.connection.execute("select pgqueue.declare_limit('tenant', 1, 'wait')")
        await fill(bench, FEW, 1 if is_one_gate else FEW // 2)
        if is_analysed:
            await bench.connection.execute("vacuum analyze")
        few = await costs(bench)

        await fill(bench, MANY, 1 if is_one_gate else MANY // 2)
        many = await costs(bench)

        # Each worker has a lease: there are few.
        assert bench.scans <= {"lease"}
        for name, buffers in many.items():
            assert buffers <= max(3 * few[name] + 50, BOUNDED.get(name, 0)), (name, few, many)


@pytest.mark.contract("P3.13")
async def test_a_sweep_of_gates_reads_the_notes_of_those_alone(dsn: str) -> None:
    async with connected(dsn) as bench:
        connection = bench.connection
        await freeze_statistics(connection)
        await connection.execute("set pgqueue.writer = on")
        await connection.execute("select pgqueue.declare_limit('tenant', 1, 'wait')")
        await fill(bench, FEW, FEW // 2)
        few = await sweep(bench)
        # Somebody has given these back at other gates, and nobody has attended to that.
        await connection.execute(
            "insert into pgqueue.note (node_id, kind, released) "
            "select gen_random_uuid(), 'gate', 1 from generate_series(1, 100000)"
        )

        many = await sweep(bench)

        # All of them are on a thousand pages. Each gate looks at three of the index, and is noted anew.
        assert many <= few + 5 * BATCH, (few, many)


async def sweep(bench: Bench) -> int:
    """Return the buffers of a sweep of a stretch of gates."""
    for _ in range(2):  # the first one reads the catalogues too
        await bench.explain("sweep", lambda it: bench.store.sweep_gates(it, FIRST, BATCH))
    return bench.costs["sweep"]
