"""Each transition is one structured record, once it is true; what a handler logs knows its job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from conftest import eventually
from faults import is_blocked

from pgqueue import JobContext, JobFailed, JobFilter, PgQueue, Reject, Snooze
from pgqueue.cli.logs import Level, set_up_logging
from pgqueue.events import AttemptsEnded, JobRescued, JobsRescued
from pgqueue.ids import new_id
from pgqueue.jobs import JobStatus
from pgqueue.logs import RECORD, JobLogFilter, log_transitions

if TYPE_CHECKING:
    from conftest import Connection

SECRET = "4111 1111 1111 1111"


class DeclinedError(Exception):
    """A way for a payment to end."""


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """What "pgqueue.jobs" has logged."""
    logger, found = logging.getLogger("pgqueue.jobs"), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Keep()
    caplog.set_level(logging.INFO, "pgqueue.jobs")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.mark.contract("BP7")
async def test_every_transition_of_a_job_is_one_record_that_says_all_of_it(
    pgq: PgQueue, records: list[logging.LogRecord]
) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext, card: str) -> str:
        raise ValueError("no answer")

    job = await work.options(queue="mail").enqueue(SECRET)
    async with pgq.worker(queues=["mail"], name="w1"):
        with pytest.raises(JobFailed):
            await job.result(timeout=60)

    assert [(each.event, each.levelname) for each in of(records)] == [
        ("job.started", "INFO"),
        ("job.retrying", "WARNING"),
        ("job.started", "INFO"),
        ("job.failed", "ERROR"),
    ]
    for number, record in enumerate(of(records)):
        assert {name for name in RECORD if not hasattr(record, name)} == set()
        assert (record.job_id, record.task, record.queue, record.worker) == (
            str(job.id),
            "work",
            "mail",
            "w1",
        )
        assert record.attempt == number // 2 + 1
        assert record.wait >= 0
        assert str(job.id) in record.getMessage()
    started, retrying, _, failed = of(records)
    assert (started.from_status, started.to_status) == ("pending", "running")
    assert (retrying.from_status, retrying.to_status, retrying.reason) == (
        "running",
        "scheduled",
        "exception",
    )
    assert (failed.from_status, failed.to_status, failed.reason) == ("running", "failed", "exception")
    assert failed.duration >= 0
    assert (failed.error_type, retrying.next_in) == ("ValueError", 0)
    assert "ValueError: no answer" in failed.getMessage()
    assert "Traceback" in failed.getMessage()


@pytest.mark.contract("BP7", "P2.37")
@pytest.mark.parametrize(
    ("how", "event", "level", "status"),
    [
        ("return", "job.succeeded", "INFO", "succeeded"),
        ("snooze", "job.snoozed", "INFO", "scheduled"),
        ("reject", "job.failed", "ERROR", "failed"),
        ("throw", "job.failed", "INFO", "failed"),
    ],
)
async def test_what_is_expected_is_logged_at_info_and_without_a_traceback(
    pgq: PgQueue, records: list[logging.LogRecord], how: str, event: str, level: str, status: str
) -> None:
    @pgq.task(throws=DeclinedError)
    async def work() -> str:
        match how:
            case "snooze":
                raise Snooze(3600)
            case "reject":
                raise Reject("no such account")
            case "throw":
                raise DeclinedError("expired")
            case _:
                return SECRET

    await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: has_logged(records, 2))

    started, ended = of(records)
    assert started.event == "job.started"
    assert (ended.event, ended.levelname, ended.to_status) == (event, level, status)
    assert "Traceback" not in ended.getMessage()


@pytest.mark.contract("BP7")
async def test_neither_arguments_nor_results_are_logged(
    pgq: PgQueue, records: list[logging.LogRecord]
) -> None:
    @pgq.task(default_retry_delay=3600)
    async def work(card: str, fails: bool) -> str:
        if fails:
            raise ValueError
        return card

    await pgq.enqueue_many([work.s(SECRET, True), work.s(SECRET, False)])
    async with pgq.worker():
        await eventually(lambda: has_logged(records, 4))

    assert SECRET not in "".join(str(vars(record)) + record.getMessage() for record in records)


@pytest.mark.contract("BP7")
async def test_a_transition_is_logged_once_it_is_true_and_not_before(
    pgq: PgQueue, db: Connection, dsn: str, records: list[logging.LogRecord]
) -> None:
    @pgq.task(max_retries=0)
    async def work() -> None:
        raise ValueError

    job = await work.enqueue()
    locker = await asyncpg.connect(dsn)
    async with pgq.worker():
        async with locker.transaction():
            await locker.execute("select from pgqueue.job where id = $1 for update", job.id)
            await eventually(lambda: is_blocked(db, "fail"))
            during = [record.event for record in of(records)]
        await eventually(lambda: has_logged(records, 2))
    await locker.close()

    assert during == ["job.started"]
    assert of(records)[1].event == "job.failed"


@pytest.mark.contract("BP7")
def test_jobs_of_a_lost_worker_are_logged_one_by_one(records: list[logging.LogRecord]) -> None:
    back, ahead, lost = new_id(), new_id(), new_id()
    jobs = [
        JobRescued(back, "work", "mail", 1, True, JobStatus.PENDING),
        JobRescued(ahead, "work", "mail", 0, False, JobStatus.PENDING),
        JobRescued(lost, "work", "mail", 2, True, JobStatus.FAILED),
    ]

    log_transitions(JobsRescued(2, [lost], "w1", jobs))

    assert [
        (each.event, each.levelname, each.job_id, each.from_status, each.to_status, each.reason)
        for each in of(records)
    ] == [
        ("job.lost", "WARNING", str(back), "running", "pending", "lost"),
        ("job.lost", "WARNING", str(ahead), "pending", "pending", "lost"),
        ("job.failed", "ERROR", str(lost), "running", "failed", "worker_lost"),
    ]


@pytest.mark.contract("BP7", "P4.5")
async def test_jobs_that_end_while_they_wait_are_logged_too(
    pgq: PgQueue, db: Connection, records: list[logging.LogRecord]
) -> None:
    @pgq.task
    async def work() -> None: ...

    one, many = await pgq.enqueue_many([work.s(), work.options(tags=["late"]).s()])
    await one.cancel(reason="changed my mind")
    async for _ in pgq.cancel_many(JobFilter(tag="late"), reason="too late"):
        pass
    expiring = await work.options(queue="nobody", expires=3600).enqueue()
    await db.execute("update pgqueue.expiry set check_at = now()")
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.job set expires_at = now() where id = $1", expiring.id)
    async with pgq.worker(queues=["none"]):
        await eventually(lambda: has_status(pgq, expiring.id, JobStatus.EXPIRED))

    assert [fields(each, "event", "job_id", "to_status", "reason") for each in records] == [
        ("job.cancelled", str(one.id), "cancelled", "changed my mind"),
        ("job.cancelled", str(many.id), "cancelled", "too late"),
        ("job.expired", str(expiring.id), "expired", "expired"),
    ]


@pytest.mark.contract("BP7")
async def test_a_rescue_says_of_each_job_what_its_record_needs(pgq: PgQueue, db: Connection) -> None:
    heard: list[Any] = []
    pgq._observers.add(heard.append, JobsRescued)

    @pgq.task
    async def work() -> None: ...

    job = await work.options(queue="mail").enqueue()
    lease_id = new_id()
    async with pgq._database.acquire() as connection:
        await pgq._store.register_lease(
            connection, lease_id, "ghost", ["mail"], 60, prefetch=0, lock_key=None, max_losses={}
        )
        lanes = await pgq._store.find_lanes(connection, ["mail"], [])
        await pgq._store.claim(connection, lease_id, 1, [(lanes[0].id, 0)])
        await connection.execute("update pgqueue.lease set expires_at = now() where id = $1", lease_id)
    async with pgq.worker(queues=["none"]):
        await eventually(lambda: is_heard(heard))

    assert heard[0].jobs == [JobRescued(job.id, "work", "mail", 1, True, JobStatus.PENDING)]


def test_a_success_that_nobody_wants_to_read_about_makes_no_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pgqueue.jobs")
    made: list[str] = []

    def make() -> list[Any]:
        made.append("made")
        return []

    log_transitions(AttemptsEnded(make, is_success=True))
    assert made == []
    log_transitions(AttemptsEnded(make, is_success=False))

    assert made == ["made"]


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_what_a_handler_logs_knows_its_job_and_what_others_log_does_not(
    pgq: PgQueue, is_async: bool
) -> None:
    found: dict[str, tuple[Any, ...]] = {}
    logger = logging.getLogger("somebody.elses.library")

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            job: Any = record
            found[record.getMessage()] = (job.job_id, job.task, job.attempt)

    handler = Keep()
    handler.addFilter(JobLogFilter())
    logger.addHandler(handler)
    together = asyncio.Barrier(2)

    @pgq.task(name="work")
    async def work(text: str) -> None:
        await together.wait()
        await asyncio.get_running_loop().run_in_executor(None, str)
        logger.warning(text)

    @pgq.task(name="sync")
    def work_in_thread(text: str) -> None:
        logger.warning(text)

    one, other = await pgq.enqueue_many([(work if is_async else work_in_thread).s(text) for text in "ab"])
    try:
        async with pgq.worker():
            await one.result(timeout=60)
            await other.result(timeout=60)
        logger.warning("outside")
        logger.warning("its own", extra={"job_id": "mine"})
    finally:
        logger.removeHandler(handler)

    name = "work" if is_async else "sync"
    assert found == {
        "a": (str(one.id), name, 1),
        "b": (str(other.id), name, 1),
        "outside": (None, None, None),
        "its own": ("mine", None, None),
    }


def of(records: list[logging.LogRecord]) -> list[Any]:
    """Return *records* without a type: their attributes are the logger's."""
    return list(records)


async def has_logged(records: list[logging.LogRecord], count: int) -> bool:
    return len(records) >= count


async def is_heard(heard: list[Any]) -> bool:
    return bool(heard)


@pytest.mark.contract("BP7")
@pytest.mark.parametrize(("every_job", "level"), [(False, logging.WARNING), (True, logging.INFO)])
def test_the_worker_command_is_quiet_about_successes_unless_asked(
    monkeypatch: pytest.MonkeyPatch, every_job: bool, level: int
) -> None:
    root, jobs = logging.getLogger(), logging.getLogger("pgqueue.jobs")
    monkeypatch.setattr(root, "handlers", [])
    before = root.level

    try:
        set_up_logging(Level.INFO, every_job=every_job)
        effective = jobs.getEffectiveLevel()
        [handler] = root.handlers
        record = logging.LogRecord("mine", logging.INFO, "", 0, "hello", (), None)
        assert handler.filter(record)
    finally:
        root.setLevel(before)
        jobs.setLevel(logging.NOTSET)

    assert effective == level
    assert handler.format(record).endswith(" mine: hello")
    record.job_id, record.attempt = "j1", 2
    assert handler.format(record).endswith(" mine: hello [job j1, attempt 2]")


async def has_status(pgq: PgQueue, job_id: UUID, status: JobStatus) -> bool:
    return (await pgq.get(job_id)).status is status


def fields(record: logging.LogRecord, *names: str) -> tuple[Any, ...]:
    return tuple(vars(record)[name] for name in names)
