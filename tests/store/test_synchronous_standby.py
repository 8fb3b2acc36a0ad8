"""A call that was cut off while its commit waited for the synchronous standby is not acknowledged before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from kit.servers import CrashableServer, Standby, crashable_server
from kit.waiting import eventually

from pgqueue import PgQueue, group

DOORS: Mapping[str, Callable[[PgQueue], Awaitable[Any]]] = {
    "one": lambda pgq: pgq.enqueue_by_name("one", 1),
    "one with a key": lambda pgq: pgq.enqueue(pgq.signature("keyed", options={"idempotency_key": "k"})),
    "one with an id": lambda pgq: pgq.enqueue(pgq.signature("chosen", options={"id": uuid4()})),
    "one for later": lambda pgq: pgq.enqueue(pgq.signature("later", options={"delay": 60})),
    "many": lambda pgq: pgq.enqueue_many([pgq.signature("many") for _ in range(3000)]),
    "a workflow": lambda pgq: pgq.enqueue_workflow(group(pgq.signature("first"), pgq.signature("second"))),
    "an event": lambda pgq: pgq.mark_processed("source", "event"),
}
COUNT = """
    select (select count(distinct task) from pgqueue.job where status is null or status <> 'cancelled')
        + (select count(*) from pgqueue.inbox)
"""
WAITING = """
    select pid from pg_stat_activity
    where wait_event = 'SyncRep' and query not like '-- record_stats%' and query not like '-- notify%'
"""


@pytest.fixture(scope="module")
def server() -> Iterator[CrashableServer]:
    with crashable_server() as server:
        anyio.run(server.ensure_started)
        yield server


@pytest.mark.contract("F7")
async def test_what_was_cut_off_waiting_for_the_standby_is_acknowledged_once_the_standby_has_it(
    server: CrashableServer,
) -> None:
    root = await asyncpg.connect(server.dsn)
    pgq = PgQueue(server.dsn, connect_timeout=180.0, max_connections=len(DOORS))
    await pgq.migrate()
    async with Standby.of(server) as standby, pgq:
        for name in ("one", "keyed", "chosen", "later", "many", "first", "second"):
            # Its lane and its place in the cache.
            await pgq.enqueue_by_name(name)
        await root.execute("alter system set synchronous_standby_names = '*'")
        await root.execute("select pg_reload_conf()")
        await standby.crash()
        calls = {door: asyncio.ensure_future(call(pgq)) for door, call in DOORS.items()}

        async def wait(count: int) -> list[int]:
            async def are_waiting() -> bool:
                return len(await root.fetch(WAITING)) == count

            await eventually(are_waiting)
            return [row["pid"] for row in await root.fetch(WAITING)]

        cut_off = await wait(len(DOORS))
        # Until they are gone: those that wait next are others.
        ended = "select bool_and(pg_terminate_backend(pid, 180000)) from unnest($1::int[]) as pid"
        assert await root.fetchval(ended, cut_off)
        # They look, find what they wrote, and wait again.
        assert not {*cut_off} & {*await wait(len(DOORS))}
        assert [door for door, call in calls.items() if call.done()] == []
        await standby.start()
        for call in calls.values():
            await call
        replica = await asyncpg.connect(standby.dsn)
        have = partial(root.fetchval, COUNT), partial(replica.fetchval, COUNT)
        primary_has, standby_has = [await each() for each in have]
        assert primary_has == standby_has
        await replica.close()
    await root.close()
