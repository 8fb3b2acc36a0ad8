"""Enqueueing in the caller's own transaction to a queue that is new, or was removed, at any isolation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import asyncpg
import pytest
from kit.roles import Roles, roles_of

from pgqueue import PgQueue
from pgqueue.tasks.combining import group_of

if TYPE_CHECKING:
    from conftest import Connection

Isolation = Literal["read_committed", "repeatable_read", "serializable"]
Door = Callable[[PgQueue, "Connection", str], Awaitable[Any]]

JOBS = """
    select count(*) from pgqueue.job join pgqueue.lane on lane.id = job.lane
    where lane.queue = $1 and lane.priority = 0 and lane.task = '' and lane.removed_at is null
"""


async def one(pgq: PgQueue, caller: Connection, queue: str) -> None:
    await pgq.enqueue_by_name("work", 1, options={"queue": queue}, connection=caller)


async def many(pgq: PgQueue, caller: Connection, queue: str) -> None:
    calls = [pgq.signature("work", each, options={"queue": queue}) for each in range(3)]
    other = pgq.signature("work", 4, options={"queue": f"{queue} beside", "priority": 7})
    await pgq.enqueue_many([*calls, other], connection=caller)


async def delayed(pgq: PgQueue, caller: Connection, queue: str) -> None:
    await pgq.enqueue_by_name("work", 1, options={"queue": queue, "delay": 60}, connection=caller)


async def keyed(pgq: PgQueue, caller: Connection, queue: str) -> None:
    options: Any = {"queue": queue, "idempotency_key": f"key of {queue}"}
    await pgq.enqueue_by_name("work", 1, options=options, connection=caller)


async def replacing(pgq: PgQueue, caller: Connection, queue: str) -> None:
    options: Any = {"queue": queue, "idempotency_key": "replaced", "on_conflict": "replace"}
    await pgq.enqueue_by_name("work", 1, options=options, connection=caller)


async def chosen(pgq: PgQueue, caller: Connection, queue: str) -> None:
    await pgq.enqueue_by_name("work", 1, options={"queue": queue, "id": uuid4()}, connection=caller)


async def workflow(pgq: PgQueue, caller: Connection, queue: str) -> None:
    calls = [pgq.signature("work", each, options={"queue": queue}) for each in range(2)]
    await pgq.enqueue_workflow(group_of(calls), connection=caller)


async def by_enqueue(pgq: PgQueue, caller: Connection, queue: str) -> None:
    del pgq
    await caller.execute("select pgqueue.enqueue('work', '{\"number\": 1}', $1)", queue)


async def by_submit(pgq: PgQueue, caller: Connection, queue: str) -> None:
    del pgq
    call = {"job_id": str(uuid4()), "task": "work", "arguments": "{}", "queue": queue, "priority": 0}
    await caller.execute("select from pgqueue.submit($1::json)", json.dumps([call]))


PYTHON: dict[str, Door] = {
    each.__name__: each for each in (one, many, delayed, keyed, replacing, chosen, workflow)
}
SQL: dict[str, Door] = {each.__name__: each for each in (by_enqueue, by_submit)}

REMOVE = "update pgqueue.lane set removed_at = now() where queue = $1"
MAKE = "select pgqueue.lane_of($1, 0::smallint)"

STATES: dict[str, tuple[str | None, str | None]] = {
    "new": (None, None),
    "known": (MAKE, None),
    "made after the snapshot": (None, MAKE),
    "removed": (REMOVE, None),
    "brought back after the snapshot": (REMOVE, MAKE),
}
"""What is done to the queue before the caller's snapshot, and after it."""


@pytest.fixture
async def roles(dsn: str, superuser_dsn: str) -> AsyncIterator[Roles]:
    del dsn
    async with roles_of(superuser_dsn) as roles:
        yield roles


async def enqueue_all(
    pgq: PgQueue, caller: Connection, beside: Connection, isolation: Isolation, state: str
) -> None:
    """Enqueue by every door to a queue of its own, which is as *state* says; each queue gets the job."""
    before, after = STATES[state]
    for name, door in (PYTHON | SQL).items():
        queue = f"{name} {state}"
        if before == REMOVE:
            # The process knows the lane, and not that it goes.
            await pgq.enqueue_by_name("work", 0, options={"queue": queue})
        if before is not None:
            await beside.execute(before, queue)
        had = await beside.fetchval(JOBS, queue)
        is_young = after is not None and isolation != "read_committed"
        try:
            async with caller.transaction(isolation=isolation), asyncio.timeout(60):
                await caller.fetchval("select count(*) from pg_class")
                if after is not None:
                    await beside.execute(after, queue)
                await door(pgq, caller, queue)
        except asyncpg.SerializationError:
            # What the functions cannot know. The caller's next transaction can see the lane.
            assert name in SQL
            assert is_young
            async with caller.transaction(isolation=isolation):
                await door(pgq, caller, queue)
        assert await beside.fetchval(JOBS, queue) > (0 if before == REMOVE else had), (name, state)


@pytest.mark.contract("W3", "W13", "P1.3")
@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
@pytest.mark.parametrize("state", STATES)
async def test_a_job_gets_to_a_queue_that_is_new_or_was_removed(
    pgq: PgQueue, dsn: str, db: Connection, isolation: Isolation, state: str
) -> None:
    replaced: Any = {"idempotency_key": "replaced", "delay": 600}
    await pgq.enqueue_by_name("work", 1, options=replaced)
    caller = await asyncpg.connect(dsn)
    try:
        await enqueue_all(pgq, caller, db, isolation, state)
    finally:
        await caller.close()


@pytest.mark.contract("W3", "W2")
@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_role_that_may_only_enqueue_gets_its_job_to_a_new_queue(
    roles: Roles, db: Connection, isolation: Isolation
) -> None:
    caller = await asyncpg.connect(roles.dsn_of("enqueue"))
    try:
        async with PgQueue(roles.dsn_of("enqueue")) as pgq:
            for state in STATES:
                await enqueue_all(pgq, caller, db, isolation, state)
    finally:
        await caller.close()


@pytest.mark.contract("W3", "P1.3")
@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_queue_that_the_callers_transaction_has_made_itself_is_not_waited_for(
    pgq: PgQueue, dsn: str, isolation: Isolation
) -> None:
    caller = await asyncpg.connect(dsn)
    try:
        async with caller.transaction(isolation=isolation), asyncio.timeout(60):
            await by_enqueue(pgq, caller, "mine")
            await one(pgq, caller, "mine")
        assert await caller.fetchval(JOBS, "mine") == 2
    finally:
        await caller.close()


@pytest.mark.contract("W3", "W2")
async def test_a_lane_that_is_named_by_another_number_is_not_taken(db: Connection) -> None:
    """Only what a snapshot cannot see is believed, and only numbers that were given out."""
    default = await db.fetchval(MAKE, "default")
    async with db.transaction(isolation="repeatable_read"):
        for lane in (default, default + 1000, 0, -1):
            found = await db.fetchval("select pgqueue.lane_for('other', 0::smallint, $1)", lane)
            assert found == await db.fetchval(MAKE, "other") != lane
