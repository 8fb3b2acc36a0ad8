"""Two versions of the code side by side: what one of them cannot decode is left for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually, over

from pgqueue import InvalidOptionError, InvalidTaskError, JobContext, JobHandle, JobStatus, PgQueue
from pgqueue.events import AttemptsEnded, Event
from pgqueue.model.ids import new_id
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.retry.undecodable import LONGEST, met_undecodable, wait_or_fail

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.handlers


@asynccontextmanager
async def versions(dsn: str, grace: float | None = 3600.0) -> AsyncIterator[tuple[PgQueue, PgQueue]]:
    async with (
        PgQueue(dsn, version="1", unknown_task_grace=grace) as old,
        PgQueue(dsn, version="2", unknown_task_grace=grace) as new,
    ):

        @old.task(name="adds")
        async def adds_old(user: int) -> str:
            return f"1: {user}"

        @new.task(name="adds")
        async def adds_new(user: int, channel: str = "mail") -> str:
            return f"2: {user} {channel}"

        @old.task(name="drops")
        async def drops_old(user: int, legacy: bool = False) -> str:
            return f"1: {user} {legacy}"

        @new.task(name="drops")
        async def drops_new(user: int) -> str:
            return f"2: {user}"

        @old.task(name="renames")
        async def renames_old(user: int) -> str:
            return f"1: {user}"

        @new.task(name="renames")
        async def renames_new(user_id: int) -> str:
            return f"2: {user_id}"

        yield old, new


CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "adds": ("new", {"user": 1, "channel": "sms"}, "2: 1 sms"),
    "drops": ("old", {"user": 1, "legacy": True}, "1: 1 True"),
    "renames": ("new", {"user_id": 1}, "2: 1"),
}
"""By task: who calls, by which arguments, and what comes of it."""


async def has_tried(pgq: PgQueue, job: JobHandle[object]) -> bool:
    return bool(await pgq.attempts(job.id))


@pytest.mark.contract("W22")
@pytest.mark.parametrize("task", CALLS)
async def test_a_job_waits_for_a_worker_that_can_decode_it(dsn: str, task: str) -> None:
    caller, arguments, result = CALLS[task]
    async with versions(dsn) as (old, new):
        right, wrong = (new, old) if caller == "new" else (old, new)
        job = await right.enqueue_by_name(task, **arguments)
        async with wrong.worker(name="wrong"):
            await eventually(lambda: has_tried(old, job))
        waiting = await job.refresh()
        async with right.worker(name="right"):
            assert await job.result(timeout=60) == result
        ended, attempts = await job.refresh(), await old.attempts(job.id)

    assert (waiting.status, waiting.attempt) == (JobStatus.SCHEDULED, 0)
    assert (ended.attempt, ended.worker) == (1, "right")
    assert {(each.worker, each.reason) for each in attempts} == {("wrong", "undecodable")}


@pytest.mark.contract("W22")
async def test_an_option_that_cannot_be_read_waits_as_well(pgq: PgQueue, db: Connection) -> None:
    """A later version may give it more values."""

    @pgq.task
    async def work() -> int:
        return 1

    job = await work.enqueue()
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute(
        'update pgqueue.job set options = \'{"max_retries": "as of tomorrow"}\' where id = $1', job.id
    )
    async with pgq.worker():
        await eventually(lambda: has_tried(pgq, job))
        assert await job.status() is JobStatus.SCHEDULED


@pytest.mark.contract("W22")
async def test_what_no_version_can_decode_fails_after_the_grace_with_the_reason(dsn: str) -> None:
    heard: list[Event] = []
    async with versions(dsn, grace=0.5) as (_, new), PgQueue(dsn) as client:
        new.observe(heard.append, AttemptsEnded)
        job = await client.enqueue_by_name("adds", nobody="knows this")
        async with new.worker():
            ended = await over(job)

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "undecodable")
    assert ended.error is not None
    assert "do not match the task" in ended.error.message
    assert "user" in ended.error.message
    # The first try and the last: it did not spin.
    assert len(heard) == 2


ERROR = JobError("Undecodable", "it does not fit")


@pytest.mark.contract("W22")
@pytest.mark.parametrize("grace", [1.0, 3600.0, 24 * 3600.0, None])
def test_the_pauses_grow_and_end_with_the_grace(grace: float | None) -> None:
    waited, tries = 0.0, 0
    met = met_undecodable(new_id(), ERROR)
    while isinstance(outcome := wait_or_fail(met, waited, grace), Retried):
        assert 0 < outcome.delay <= LONGEST
        assert not outcome.spent
        waited, tries = waited + outcome.delay, tries + 1
        if grace is None and waited > 30 * 24 * 3600:
            break

    assert isinstance(outcome, Ended if grace is not None else Retried)
    assert tries < 200 or grace is None
    assert grace is None or waited == pytest.approx(grace)


EARLIER: dict[str, list[tuple[str, float]]] = {
    "retried": [("exception", 7200)],
    "snoozed": [("snoozed", 7200), ("snoozed", 3700)],
    "decoded in between": [("undecodable", 7200), ("exception", 3700)],
    "redriven": [("undecodable", 9000)],
    "times that no clock has shown": [("undecodable", float("-inf")), ("undecodable", float("inf"))],
}
"""By what happened: the reasons of earlier attempts, and the seconds for which they are past."""


@pytest.mark.contract("W22")
@pytest.mark.parametrize("earlier", EARLIER)
async def test_the_grace_counts_from_when_the_job_was_first_met_so(
    dsn: str, db: Connection, earlier: str
) -> None:
    """And not from its first start: it may have been retried or snoozed for longer than the grace."""
    async with versions(dsn) as (old, new):
        job = await old.enqueue_by_name("renames", user=1)
        await age(db, job, 8000, EARLIER[earlier])
        async with new.worker(name="wrong"):
            await eventually(lambda: has_met(old, job))
        assert await job.status() is JobStatus.SCHEDULED
        async with old.worker(name="right"):
            assert await job.result(timeout=60) == "1: 1"


@pytest.mark.contract("W22")
@pytest.mark.parametrize("between", [[], [("released", 3000), ("lost", 2000)]], ids=["", "stopped between"])
async def test_the_grace_ends_for_a_job_that_was_met_so_throughout(
    dsn: str, db: Connection, between: list[tuple[str, float]]
) -> None:
    async with versions(dsn) as (old, new):
        job = await old.enqueue_by_name("renames", user=1)
        await age(db, job, 8000, [("exception", 7200), ("undecodable", 3700), *between])
        async with new.worker():
            ended = await over(job)

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "undecodable")


async def age(
    db: Connection, job: JobHandle[object], first_start: float, attempts: list[tuple[str, float]]
) -> None:
    """Give *job* a past: seconds since its first start, and its attempts."""
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute(
        "update pgqueue.job set started_at = now() - make_interval(secs => $2) where id = $1",
        job.id,
        first_start,
    )
    for reason, seconds in attempts:
        await db.execute(
            """
            insert into pgqueue.attempt (job_id, attempt, reason, started_at)
            values ($1, 1, $2, case $3::float8
                when 'infinity' then '-infinity'
                when '-infinity' then 'infinity'
                else now() - make_interval(secs => $3)
            end)
            """,
            job.id,
            reason,
            seconds,
        )


async def has_met(pgq: PgQueue, job: JobHandle[object]) -> bool:
    return any(each.worker == "wrong" for each in await pgq.attempts(job.id))


@pytest.mark.contract("P7.25")
async def test_a_pinned_job_goes_on_only_on_a_worker_that_declares_its_version(
    dsn: str, db: Connection
) -> None:
    def declare(queue: PgQueue, name: str | None = None, version: str | None = None) -> Any:
        """Declare it as its code would: each version says which it is."""

        @queue.task(name=name, version=version, pin=True)
        async def onboard(ctx: JobContext) -> str:
            await ctx.wait_for_event("go", int)
            return f"{queue.version} ran {ctx.task}"

        return onboard

    async with PgQueue(dsn, version="1") as old, PgQueue(dsn, version="2") as new:
        job = await declare(old).enqueue()
        newer = declare(new)
        async with old.worker():
            await eventually(lambda: is_blocked(job))
        await old.signal(job.id, "go", 1)
        async with new.worker():
            # It is claimed once, and left in a lane of its own for workers that declare its version.
            fresh = await newer.enqueue()
            await new.signal(fresh.id, "go", 1)
            assert await fresh.result(timeout=60) == "2 ran onboard@2"
            aside = "select lane.task from pgqueue.ready join pgqueue.lane on lane.id = ready.lane"
            await eventually(lambda: holds(db, f"select 'onboard@1' = ({aside})"))
            assert (await job.refresh()).task == "onboard@1"
        # The code of the new version takes the old one's jobs over, because it says so.
        new.task(name="onboard", version="1", pin=True)(newer)
        async with new.worker():
            assert await job.result(timeout=60) == "2 ran onboard@1"


async def is_blocked(job: JobHandle[Any]) -> bool:
    return await job.status() is JobStatus.BLOCKED


async def holds(db: Connection, question: str) -> bool:
    return bool(await db.fetchval(question))


@pytest.mark.contract("P7.25")
def test_a_version_that_cannot_be_pinned_is_refused_at_the_declaration() -> None:
    async def handler() -> None: ...

    plain, versioned = PgQueue("postgresql://nowhere"), PgQueue("postgresql://nowhere", version="7")
    refused: list[tuple[PgQueue, dict[str, Any], type[Exception]]] = [
        (plain, {"pin": True}, InvalidTaskError),
        (plain, {"version": "2"}, InvalidTaskError),
        (plain, {"pin": 1, "version": "2"}, InvalidTaskError),
        (plain, {"pin": True, "version": ""}, InvalidOptionError),
        (plain, {"pin": True, "version": 2}, InvalidOptionError),
        (plain, {"pin": True, "version": "a\nb"}, InvalidTaskError),
        (plain, {"pin": True, "version": "\0"}, InvalidOptionError),
        (plain, {"pin": True, "version": "2" * 200, "name": "n" * 100}, InvalidOptionError),
    ]
    for queue, options, error in refused:
        with pytest.raises(error):
            queue.task(**options)(handler)
        assert not list(queue.registry.names)
    assert versioned.task(pin=True)(handler).name == "handler@7"
    assert versioned.task(version="8", pin=True)(handler).name == "handler@8"
