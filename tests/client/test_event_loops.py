"""Calls from another event loop are refused before anything is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import anyio.from_thread
import pytest

from pgqueue import JobStatus, PgQueue, WrongEventLoopError

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.handlers

CALLS: dict[str, Callable[[PgQueue, Any], Awaitable[object]]] = {
    "enqueue": lambda pgq, _job: pgq.enqueue_by_name("work"),
    "enqueue many": lambda pgq, _job: pgq.enqueue_many([pgq.signature("work")] * 3),
    "enqueue in a caller's transaction": lambda pgq, _job: pgq.enqueue(
        pgq.signature("work"), connection=cast("Connection", object())
    ),
    "enqueue with a key": lambda pgq, _job: pgq.enqueue_by_name("work", options={"idempotency_key": "key"}),
    "enqueue into a full queue": lambda pgq, _job: pgq.enqueue_by_name("work", options={"queue": "limited"}),
    "get": lambda pgq, job: pgq.get(job.id),
    "get many": lambda pgq, job: pgq.get_many([job.id]),
    "await": lambda _pgq, job: job.result(timeout=5),
    "cancel": lambda _pgq, job: job.cancel(),
    "list": lambda pgq, _job: pgq.jobs(),
    "pause": lambda pgq, _job: pgq.pause(queue="default"),
    "measure": lambda pgq, _job: pgq.measure(),
    "mark an event": lambda pgq, _job: pgq.mark_processed("source", "event"),
    "check": lambda pgq, _job: pgq.check(),
}


@pytest.mark.contract("W22")
async def test_a_call_from_another_event_loop_is_refused_and_does_nothing(pgq: PgQueue) -> None:
    pgq.queue("limited", max_depth=5)
    job = await pgq.enqueue_by_name("work")

    def call(name: str) -> BaseException | None:
        async def go() -> object:
            return await CALLS[name](pgq, job)

        try:
            asyncio.run(go())
        except Exception as error:
            return error
        return None

    raised = {name: type(await asyncio.to_thread(call, name)) for name in CALLS}

    assert raised == dict.fromkeys(CALLS, WrongEventLoopError)
    assert [each.id for each in (await pgq.jobs()).jobs] == [job.id]
    # The loop that it belongs to goes on.
    assert await (await pgq.enqueue_by_name("work")).status() is JobStatus.PENDING


@pytest.mark.contract("W22")
async def test_a_plain_handler_calls_through_the_loop_of_its_worker(pgq: PgQueue) -> None:
    @pgq.task
    async def child(number: int) -> int:
        return number + 1

    @pgq.task
    def parent() -> int:
        job = anyio.from_thread.run(child.enqueue, 1)
        return anyio.from_thread.run(job.result)

    @pgq.task(max_retries=0)
    def by_another_loop() -> str:
        try:
            asyncio.run(child.enqueue(1))
        except WrongEventLoopError as error:
            return str(error)
        return "it was let in"

    async with pgq.worker():
        assert await (await parent.enqueue()).result(timeout=60) == 2
        assert "anyio.from_thread.run" in await (await by_another_loop.enqueue()).result(timeout=60)


@pytest.mark.contract("W22")
async def test_a_pgqueue_that_was_closed_can_be_opened_in_another_event_loop(dsn: str) -> None:
    pgq = PgQueue(dsn)
    async with pgq:
        first = await pgq.enqueue_by_name("work")

    def elsewhere() -> object:
        async def go() -> object:
            async with pgq:
                return (await pgq.get(first.id)).id

        return asyncio.run(go())

    assert await asyncio.to_thread(elsewhere) == first.id
