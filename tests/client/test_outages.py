"""What callers are told while the database is away: each call, cut at each of its messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from kit import inside
from kit.cutting import CuttingProxy, cutting_proxy

from pgqueue import DatabaseUnavailableError, JobNotFoundError, PgQueue, group

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("F6")

LIMIT = 0.15
"""Seconds that a call may take while the database is away."""
MOST = 60
"""Messages that no call sends."""


@pytest.fixture
async def proxy(pgq: PgQueue, dsn: str) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(dsn) as away:
        yield away


@asynccontextmanager
async def opened(proxy: CuttingProxy) -> AsyncIterator[PgQueue]:
    pgq = PgQueue(proxy.dsn)
    pgq.queue("full", max_depth=1000)
    await pgq.open()
    inside.database(pgq).connect_timeout = LIMIT
    try:
        yield pgq
    finally:
        proxy.come_back()
        await pgq.close()


def plainly(pgq: PgQueue, job_id: UUID) -> Awaitable[Any]:
    # Found by its argument: nothing is chosen.
    return pgq.enqueue_by_name("work", str(job_id))


def keyed(pgq: PgQueue, job_id: UUID) -> Awaitable[Any]:
    return pgq.enqueue_by_name("work", str(job_id), options={"idempotency_key": str(job_id)})


def limited(pgq: PgQueue, job_id: UUID) -> Awaitable[Any]:
    return pgq.enqueue_by_name("work", str(job_id), options={"queue": "full"})


def in_a_workflow(pgq: PgQueue, job_id: UUID) -> Awaitable[Any]:
    return pgq.enqueue_workflow(group(pgq.signature("work", str(job_id)), pgq.signature("more")))


ENQUEUEING: dict[str, Callable[[PgQueue, UUID], Awaitable[Any]]] = {
    "plainly": plainly,
    "with a key": keyed,
    "to a queue with a limit": limited,
    "in a workflow": in_a_workflow,
}
OTHERS: dict[str, Callable[[PgQueue, UUID], Awaitable[Any]]] = {
    "get": lambda pgq, job_id: pgq.get(job_id),
    "jobs": lambda pgq, _: pgq.jobs(),
    "status": lambda pgq, job_id: pgq.handle(job_id).status(),
    "cancel": lambda pgq, job_id: pgq.cancel(job_id),
}


@pytest.mark.parametrize("is_sent", [False, True])
@pytest.mark.parametrize("how", ENQUEUEING)
async def test_an_enqueue_tells_what_was_never_sent_from_what_may_be_done(
    db: Connection, proxy: CuttingProxy, *, how: str, is_sent: bool
) -> None:
    told = set()
    for message in range(MOST):
        async with opened(proxy) as pgq:
            await ENQUEUEING[how](pgq, uuid4())
            job_id, began_at = uuid4(), time.monotonic()
            proxy.go_away(message, is_sent=is_sent)
            try:
                await ENQUEUEING[how](pgq, job_id)
            except DatabaseUnavailableError as error:
                assert time.monotonic() - began_at >= LIMIT
                told.add(error.may_have_happened)
                may_exist = {True, False} if error.may_have_happened else {False}
            else:
                may_exist = {True}
            was_away = proxy.come_back()
        exists = await db.fetchval(
            "select exists (select from pgqueue.job where id = $1 or arguments::text like $2)",
            job_id,
            f"%{job_id}%",
        )
        assert exists in may_exist
        if not was_away:
            break
    assert True in told


@pytest.mark.parametrize("how", ENQUEUEING)
async def test_an_enqueue_uses_all_its_time_and_says_that_nothing_was_sent(
    proxy: CuttingProxy, how: str
) -> None:
    async with opened(proxy) as pgq:
        await ENQUEUEING[how](pgq, uuid4())
        proxy.is_away = True
        await proxy.close()
        # What is sent before the end is seen may have arrived.
        await asyncio.sleep(0.1)
        for _ in range(2):
            began_at = time.monotonic()
            with pytest.raises(DatabaseUnavailableError, match="check that it is running") as raised:
                await ENQUEUEING[how](pgq, uuid4())
            assert not raised.value.may_have_happened
            assert time.monotonic() - began_at >= LIMIT


@pytest.mark.parametrize("call", OTHERS)
async def test_no_call_raises_an_error_of_the_driver(pgq: PgQueue, proxy: CuttingProxy, call: str) -> None:
    job = await pgq.enqueue_by_name("work")
    for message in range(MOST):
        async with opened(proxy) as away:
            await OTHERS[call](away, job.id)
            proxy.go_away(message // 2, is_sent=bool(message % 2))
            with suppress(DatabaseUnavailableError, JobNotFoundError):
                await OTHERS[call](away, job.id)
            if not proxy.come_back():
                break
    assert message > 1


@pytest.mark.parametrize("is_sent", [False, True])
async def test_opening_raises_no_error_of_the_driver_at_any_of_its_messages(
    proxy: CuttingProxy, *, is_sent: bool
) -> None:
    for message in range(MOST):
        proxy.go_away(message, is_sent=is_sent)
        pgq = PgQueue(proxy.dsn)
        try:
            await pgq.open()
        except DatabaseUnavailableError:
            assert proxy.come_back()
            assert not inside.has_pool(pgq)
        else:
            proxy.come_back()
            await pgq.close()
            break
    assert message > 5


async def test_a_watch_and_an_enqueue_live_through_an_outage(pgq: PgQueue, proxy: CuttingProxy) -> None:
    job = await pgq.enqueue_by_name("work")
    async with opened(proxy) as away:
        inside.database(away).connect_timeout = 30
        watching = aiter(away.watch(job.id))
        assert (await anext(watching)).id == job.id
        proxy.go_away(0, is_sent=False)
        following = asyncio.ensure_future(anext(watching))
        enqueueing = asyncio.ensure_future(away.enqueue_by_name("work"))
        await asyncio.sleep(0.3)
        assert not following.done()
        proxy.come_back()
        # It was tried again until the database was back.
        assert (await (await enqueueing).refresh()).task == "work"
        await pgq.cancel(job.id)
        assert (await following).is_terminal
