"""The loops of an open PgQueue outlive errors, and whoever relies on one that is gone is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import anyio
import httpx
import pytest
from kit import inside
from kit.scene import allow
from kit.waiting import eventually, holds

from pgqueue import BackgroundError, CodecError, Job, PgQueue, Task
from pgqueue.background import loop as loops
from pgqueue.web import status_app

WITHIN = 60.0
NAMES = ["notifications", "reading", "statistics", "watching"]


@pytest.fixture
def work(pgq: PgQueue) -> Task[[], str]:
    @pgq.task
    async def work() -> str:
        return "done"

    return work


class Breaking:
    """Makes a method raise a few times."""

    def __init__(self, of: Any, name: str, error: Exception, times: int, patch: pytest.MonkeyPatch) -> None:
        self.left = times
        method = getattr(of, name)

        def raising(*args: Any, **kwargs: Any) -> Any:
            if self.left:
                self.left -= 1
                raise error
            return method(*args, **kwargs)

        patch.setattr(of, name, raising)


async def ready(pgq: PgQueue) -> tuple[int, str]:
    """Return what /readyz answers."""
    transport = httpx.ASGITransport(status_app(pgq, authorize=allow))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/readyz")
    return answer.status_code, answer.text


BREAK: dict[str, Callable[[PgQueue], tuple[Any, str]]] = {
    "notifications": lambda pgq: (inside.store(pgq), "notify"),
    "reading": lambda pgq: (inside.reads(pgq), "_answer"),
    "statistics": lambda pgq: (inside.store(pgq), "record_stats"),
    "watching": lambda pgq: (inside.store(pgq), "read_versions"),
}


@pytest.mark.contract("W14")
@pytest.mark.parametrize("error", [ArithmeticError("odd"), ExceptionGroup("odd", [KeyError("odd")])])
@pytest.mark.parametrize("name", NAMES)
async def test_each_loop_outlives_any_error_and_says_so(
    name: str,
    error: Exception,
    pgq: PgQueue,
    work: Task[[], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pgqueue.background.stats.INTERVAL", 0.05)
    monkeypatch.setattr("pgqueue.background.watching.POLL_INTERVAL", 0.1)
    broken = Breaking(*BREAK[name](pgq), error, 2, monkeypatch)

    async def use() -> str:
        job = await work.enqueue()
        with anyio.move_on_after(1):
            await asyncio.gather(pgq.get(job.id), return_exceptions=True)
        async with pgq.worker():
            return await job.result(timeout=WITHIN)

    while broken.left:
        assert await use() == "done"
    result = await use()

    assert result == "done"
    assert inside.has_background(pgq)
    await pgq.check()
    said = [each for each in caplog.records if each.name == "pgqueue.background"]
    assert [(each.levelno, each.getMessage().split(":")[0]) for each in said][:1] == [(logging.ERROR, name)]
    assert sum(each.levelno >= logging.WARNING for each in said) == 1, "one line a minute"


@pytest.mark.contract("W14")
async def test_reads_and_watches_fail_rather_than_wait_once_their_loops_are_gone(
    pgq: PgQueue, work: Task[[], str]
) -> None:
    job = await work.enqueue()
    waiting = asyncio.create_task(job.result())
    await eventually(lambda: holds(inside.watches(pgq).is_watching))

    inside.cancel_background(pgq)

    with anyio.fail_after(WITHIN):
        await asyncio.wait([waiting])
        found = await asyncio.gather(waiting, pgq.get(job.id), job.result(), return_exceptions=True)
    await eventually(lambda: holds(not inside.has_background(pgq)))
    status, text = await ready(pgq)

    assert [type(each) for each in found] == [BackgroundError] * 3
    assert status == 503
    assert all(f"loop for {name} has ended" in text for name in NAMES)
    with pytest.raises(BackgroundError, match="loop for reading has ended"):
        await pgq.check()
    await pgq.close()
    await pgq.open()
    assert (await pgq.get(job.id)).id == job.id
    await pgq.check()


@pytest.mark.contract("W14")
@pytest.mark.parametrize("name", NAMES)
async def test_a_loop_that_is_stuck_makes_a_process_not_ready(
    name: str, pgq: PgQueue, work: Task[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgqueue.background.stats.INTERVAL", 0.05)
    monkeypatch.setattr("pgqueue.background.watching.POLL_INTERVAL", 0.1)
    go_on = anyio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        await go_on.wait()

    job = await work.enqueue()
    assert await ready(pgq) == (200, '{"status":"ready"}')
    # Before, a busy machine would be taken for one that is stuck.
    monkeypatch.setattr(loops, "STUCK_AFTER", 0.2)
    monkeypatch.setattr(*BREAK[name](pgq), hang)
    await work.enqueue()
    using = [asyncio.create_task(pgq.get(job.id)), asyncio.create_task(job.result())]

    async def is_told() -> bool:
        status, text = await ready(pgq)
        return status == 503 and f"the background loop for {name} has been stuck" in text

    await eventually(is_told)
    for each in using:
        each.cancel()
    await asyncio.gather(*using, return_exceptions=True)


@pytest.mark.contract("W14")
async def test_a_row_that_cannot_be_read_settles_its_own_watchers_only(
    pgq: PgQueue, work: Task[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await work.enqueue(), await work.enqueue()
    read_job_rows = inside.store(pgq).read_job_rows

    async def read(connection: Any, ids: Iterable[UUID], **rest: Any) -> Any:
        asked = list(ids)
        if bad.id in asked:
            # What asyncpg raises for a value that Python does not have.
            raise OverflowError("date value out of range")
        return await read_job_rows(connection, asked, **rest)

    monkeypatch.setattr(inside.store(pgq), "read_job_rows", read)
    waiting = [asyncio.create_task(job.result()) for job in (bad, good, bad)]
    reading = [asyncio.create_task(pgq.get(job.id)) for job in (bad, good)]

    with anyio.fail_after(WITHIN):
        told = await asyncio.gather(waiting[0], waiting[2], *reading, return_exceptions=True)
        async with pgq.worker():
            result = await waiting[1]

    assert result == "done"
    *errors, found = told
    assert isinstance(found, Job)
    assert found.id == good.id
    for error in errors:
        assert isinstance(error, CodecError)
        assert error.job_id == bad.id
    await pgq.check()
