"""What statements of flow control touch: looks for due schedules, and claims beside blocked jobs."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import bare
import common

from pgqueue.store import Store
from pgqueue.worker.claim.lanes import LaneBook

FEW = 100
READY = 1000
_HOUR = 3600.0
SCHEDULES = """
    insert into pgqueue.schedule (name, task, arguments, template, every, next_at, due_at)
    select 'schedule ' || n, 'noop', '{}', '{"queue": "default", "priority": 0}', 3600,
           now() + interval '1 hour' + n * interval '1 ms', now() + interval '1 hour' + n * interval '1 ms'
    from generate_series(1, $1::integer) as n
"""
ONE_DUE = "update pgqueue.schedule set due_at = now() - interval '1 second' where name = 'schedule 7'"
# In the order of their ids, as callers write them. Ids that the server makes in one millisecond are in any
# order: the records of a claim would lie on as many pages as chance has it.
ADD_READY = """
    with given as materialized (
        select pgqueue.uuid7() as id from generate_series(1, $1::integer) order by id
    ),
    added as (
        insert into pgqueue.job (id, lane, task, arguments)
        select id, $2, 'noop', '{}' from given order by id
        returning id, lane
    )
    insert into pgqueue.ready (job_id, lane) select id, lane from added order by id
"""
ADD_ENDED = """
    insert into pgqueue.job (id, lane, task, arguments, status, completed_at)
    select pgqueue.uuid7(), $2, 'noop', '{}', 'succeeded', now() from generate_series(1, $1::integer)
"""
ADD_BLOCKED = """
    with added as (
        insert into pgqueue.job (id, lane, task, arguments, hooks, gates)
        select pgqueue.uuid7(), $2, 'noop', '{}', 4, array['limit', '']
        from generate_series(1, $1::integer)
        returning id, lane
    )
    insert into pgqueue.blocked (job_id, lane, gated, gate, turn)
    select id, lane, true, pgqueue.key_id('limit', ''), nextval('pgqueue.position') from added
"""


async def schedules(server: str, many: int) -> common.Figures:
    """Return the buffers of a look for due schedules and of the look ahead, one due and none."""
    few, buffers = await _looks(server, FEW), await _looks(server, many)
    return {
        "schedules_buffers_a_tick": buffers["take_one_due"] + buffers["ahead_one_due"],
        "schedules_buffers_a_tick_of_few": few["take_one_due"] + few["ahead_one_due"],
        **{f"schedules_{what}_buffers": count for what, count in buffers.items()},
    }


async def _looks(server: str, count: int) -> dict[str, float]:
    store: Any = Store("pgqueue")
    buffers: dict[str, float] = {}
    async with common.database(server) as dsn, bare.connect(dsn, durable=False) as connection:
        await connection.execute(SCHEDULES, count, timeout=_HOUR)
        await connection.execute("vacuum analyze pgqueue.schedule")
        for due in ("none_due", "one_due"):
            buffers[f"ahead_{due}"] = await _buffers(connection, store._sql["find_next_tick"])  # noqa: SLF001
            buffers[f"take_{due}"] = await _buffers(connection, store._sql["take_due"], 100, [], True)  # noqa: SLF001
            await connection.execute(ONE_DUE)
    return buffers


async def _buffers(connection: asyncpg.Connection[asyncpg.Record], sql: str, *arguments: object) -> float:
    """Return the buffers of a statement's second run on the connection, both undone."""
    seen = []
    for _ in range(2):
        transaction = connection.transaction()
        await transaction.start()
        [row] = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", *arguments)
        await transaction.rollback()
        plan = json.loads(row[0])[0]["Plan"]
        seen.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return float(seen[-1])


async def claims(server: str, blocked: int) -> common.Figures:
    """Return the buffers of a claim of a hundred jobs: beside none, very many blocked and as many ended ones.

    Ended ones tell what is due to the index of records, which is a level deeper among many jobs of any kind.
    """
    buffers = []
    for add, count in ((ADD_BLOCKED, 0), (ADD_ENDED, blocked), (ADD_BLOCKED, blocked)):
        async with common.database(server) as dsn, bare.connect(dsn, durable=False) as connection:
            await connection.execute("set pgqueue.writer = on")
            # The database's own limit, which lets none through; nobody attends to it here.
            await connection.execute(add, count, bare.LANE, timeout=_HOUR)
            await connection.execute(ADD_READY, READY, bare.LANE, timeout=_HOUR)
            await connection.execute("vacuum analyze", timeout=_HOUR)
            async with bare.lease(connection) as lease_id:
                book, store = LaneBook(), Store("pgqueue")
                book.learn(await store.find_lanes(connection, ["default"], ["noop"]))
                book.swept(await store.sweep(connection, book.ids), book.ids)
                buffers.append(await bare.claim_buffers(connection, lease_id, book.walk()))
    none, ended, many = buffers
    return {
        "claim_buffers_to_none_blocked": many / none,
        "claim_buffers_to_as_many_ended": many / ended,
        "claim_buffers": many,
        "claim_buffers_none_blocked": none,
        "claim_buffers_as_many_ended": ended,
    }
