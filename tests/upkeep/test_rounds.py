"""Each chore of the upkeep has its own interval and errors: one that fails does not stop the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.events import Event, Observers, WorkErrorIsolated
from pgqueue.upkeep import cancelling, placing, retention, rounds
from pgqueue.upkeep.chore import Chore
from pgqueue.upkeep.rounds import Rounds

if TYPE_CHECKING:
    from conftest import Connection


class Counted(Chore):
    """Counts its runs; raises *error* as long as there is one."""

    def __init__(
        self, name: str = "counting", error: BaseException | None = None, pause: float = 0.0
    ) -> None:
        super().__init__()
        self.name = name
        self.error = error
        self.runs = 0
        self.forgotten = 0
        self._pause = pause

    def forget(self) -> None:
        self.forgotten += 1

    async def run(self) -> float:
        self.runs += 1
        if self.error is not None:
            raise self.error
        return self._pause


class FailsOnce(Counted):
    """Raises *error* at its first run alone, however soon there is another one."""

    async def run(self) -> float:
        try:
            return await super().run()
        finally:
            self.error = None


@asynccontextmanager
async def doing(*chores: Chore) -> AsyncIterator[asyncio.Task[None]]:
    """Run the chores."""
    rounds = asyncio.ensure_future(Rounds(chores).run())
    try:
        yield rounds
    finally:
        rounds.cancel()
        await asyncio.wait((rounds,))


def reached(chore: Counted, runs: int) -> Callable[[], Awaitable[bool]]:
    async def is_reached() -> bool:
        return chore.runs >= runs

    return is_reached


# On values


async def test_a_chore_that_fails_is_logged_and_put_off_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "FAILURE_PAUSES", (600.0,))
    broken, sound = Counted("expiring jobs", ValueError("no such table")), Counted()

    async with doing(broken, sound) as run:
        await eventually(reached(sound, 50))
        assert not run.done()

    assert broken.runs == 1
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.getMessage() == (
        "upkeep: expiring jobs failed (ValueError: no such table); trying again in 600 s, "
        "other chores continue"
    )
    assert record.exc_info is not None
    assert (broken.forgotten, sound.forgotten) == (1, 0)


async def test_a_chore_that_fails_keeps_its_pause_however_often_it_is_called_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "FAILURE_PAUSES", (600.0,))

    class Called(Counted):
        is_called_for = True

    broken, sound = Called(error=ValueError("no such table")), Counted()

    async with doing(broken, sound):
        await eventually(reached(sound, 50))

    assert broken.runs == 1


async def test_a_chore_that_works_again_goes_on_at_its_own_interval(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pgqueue.worker")
    chore = FailsOnce(error=ValueError("for now"))

    async with doing(chore):
        await eventually(reached(chore, 3))

    assert chore.failures == 0
    assert "upkeep: counting works again after 1 failures" in caplog.text


async def test_each_chore_has_its_own_interval() -> None:
    often, seldom = Counted(), Counted(pause=3600)

    async with doing(often, seldom):
        await eventually(reached(often, 50))

    assert seldom.runs == 1


async def test_an_outage_is_logged_once_and_begins_everything_anew(caplog: pytest.LogCaptureFixture) -> None:
    away = ConnectionRefusedError("no server")
    one, other = Counted(error=away), Counted(error=away)

    async with doing(one, other):
        await eventually(reached(other, 1))
        one.error = other.error = None
        await eventually(reached(one, 3))
        await eventually(reached(other, 3))

    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "the database is unavailable (ConnectionRefusedError: no server)" in warnings[0]
    assert one.forgotten == other.forgotten >= 2


async def test_an_error_that_looks_like_an_outage_leaves_the_others_their_turns() -> None:
    broken, sound = Counted(error=OSError("a file of its own")), Counted()

    async with doing(broken, sound):
        await eventually(reached(sound, 50))

    assert broken.runs < sound.runs / 10


async def test_cancellation_passes() -> None:
    class Waiting(Counted):
        async def run(self) -> float:
            self.runs += 1
            await asyncio.sleep(3600)
            return 0.0

    chore = Waiting()

    async with doing(chore) as rounds:
        await eventually(reached(chore, 1))

    assert rounds.cancelled()
    assert chore.failures == 0


@pytest.mark.contract("W8")
@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        asyncpg.InterfaceError("another operation is in progress"),
        asyncpg.DataError("invalid input"),
        OverflowError("date value out of range"),
        KeyError(7),
        RecursionError(),
        MemoryError(),
        ExceptionGroup("several", [ValueError(1), OSError(2)]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_chore_survives_any_error_and_the_others_go_on(error: BaseException) -> None:
    heard: list[Event] = []
    observers = Observers()
    observers.add(heard.append, WorkErrorIsolated)
    broken, sound = FailsOnce("expiring jobs", error), Counted()

    rounds = asyncio.ensure_future(Rounds([broken, sound], observers=observers).run())
    try:
        # As an outage, which some of them look like, it has all wait for a moment.
        await eventually(reached(sound, 5))
        await eventually(reached(broken, 3))
        assert not rounds.done()
    finally:
        rounds.cancel()
        await asyncio.wait((rounds,))

    if not isinstance(error, asyncpg.InterfaceError):
        assert heard == [WorkErrorIsolated("expiring jobs", type(error).__name__)]


# In a worker


async def test_a_worker_goes_on_while_the_statement_of_one_chore_fails_and_takes_it_up_again(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pgqueue.worker")

    @pgq.task
    async def work() -> None: ...

    async with pgq.worker() as worker:
        await worker.wait_ready()
        await db.execute("alter function pgqueue.carry_redrive rename to carry_redrive_away")
        await eventually(logged(caplog, "upkeep: working on mass redrives failed", times=2))
        # One is promoted, claimed and finished, the other expires.
        due = await work.options(delay=0.2).enqueue()
        soon = datetime.now(UTC) + timedelta(seconds=0.2)
        late = await work.options(queue="nobody's", expires=soon).enqueue()

        async def are_over() -> bool:
            return [await due.status(), await late.status()] == [JobStatus.SUCCEEDED, JobStatus.EXPIRED]

        await eventually(are_over)
        assert worker.is_consuming
        await db.execute("alter function pgqueue.carry_redrive_away rename to carry_redrive")
        await eventually(logged(caplog, "upkeep: working on mass redrives works again"))

    loud = [each for each in caplog.records if each.levelno >= logging.WARNING]
    failures = [each for each in loud if each.getMessage().startswith("upkeep: ")]
    assert {each.getMessage().split(" failed")[0] for each in failures} == {
        "upkeep: working on mass redrives"
    }
    assert "function pgqueue.carry_redrive(integer) does not exist" in failures[0].getMessage()
    assert {each.statement for each in failures} == {"dead_letters/carry_redrive"}  # type: ignore[attr-defined]


KEEPING_THE_LEASE = {"register_lease", "renew_lease", "hold_lock", "lock_lease", "delete_lease"}


@pytest.mark.contract("W8")
async def test_a_worker_works_while_all_statements_of_its_upkeep_fail_and_says_which(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "FAILURE_PAUSES", (0.2,))
    monkeypatch.setattr(placing, "FIRST_PASS", 0.0)
    monkeypatch.setattr(retention, "FIRST_PASS", 0.0)
    caplog.set_level(logging.INFO, "pgqueue.worker")
    heard: list[WorkErrorIsolated] = []
    pgq.observe(heard.append, WorkErrorIsolated)  # type: ignore[arg-type]
    store = inside.store(pgq)

    pgq.queue("default", ageing=3600)

    @pgq.schedule(every=3600)
    @pgq.task
    async def work() -> str:
        return "done"

    folders = (
        "upkeep",
        "workflows",
        "durable",
        "lease",
        "dead_letters",
        "bulk",
        "settings",
        "measure",
        "schema",
        "schedules",
        "limiters",
    )
    # Where what is paused is not known, nothing may start. Statistics are not the upkeep's: they are written
    # ten seconds after a job, and a slow run of this test came so far.
    spared = {*KEEPING_THE_LEASE, "read_settings", "notify", "record_stats"}
    whole = inside.break_statements(store, *folders, but=spared)
    async with pgq.worker() as worker:
        await worker.wait_ready()
        whole |= inside.break_statements(store, "settings", but={"notify"})
        names = inside.chores_of(worker)

        async def have_all_failed() -> bool:
            return {each.doing for each in heard} >= names

        await eventually(have_all_failed)
        assert await (await work.enqueue()).result(timeout=60) == "done"

        # Before they are mended: that is done one by one, and a chore may then fail at another one.
        # Records are written by a thread of their own, behind what observers hear.
        async def are_said() -> bool:
            said = {getattr(record, "statement", None) for record in caplog.records} - {None}
            return said == {each.statement for each in heard}

        await eventually(are_said)
        inside.mend_statements(store, whole)
        for name in names:
            await eventually(logged(caplog, f"{name} works again"))
        assert worker.is_consuming

    assert {each.doing for each in heard if each.statement is None} == set()


def logged(caplog: pytest.LogCaptureFixture, text: str, *, times: int = 1) -> Callable[[], Awaitable[bool]]:
    async def is_logged() -> bool:
        return caplog.text.count(text) >= times

    return is_logged


async def test_a_request_is_heeded_at_once(pgq: PgQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    # No poll finds it.
    monkeypatch.setattr(cancelling, "TICK", 3600.0)
    started = asyncio.Event()

    @pgq.task
    async def hang() -> None:
        started.set()
        await asyncio.sleep(3600)

    async with pgq.worker() as worker:
        await worker.wait_ready()
        for _ in range(3):
            started.clear()
            job = await hang.enqueue()
            await started.wait()
            await job.cancel()

            async def is_cancelled() -> bool:
                return await job.status() is JobStatus.CANCELLED  # noqa: B023

            await eventually(is_cancelled)
