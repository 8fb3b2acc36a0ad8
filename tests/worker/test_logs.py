"""Each transition is one structured record, once it is true; what a handler logs knows its job."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from kit import inside
from kit.faults import is_blocked
from kit.records import kept_records
from kit.waiting import eventually, has_status, is_over

from pgqueue import InvalidOptionError, JobContext, JobFailed, JobFilter, PgQueue, Reject, Snooze
from pgqueue.cli.logging_setup import Level, LogFormat, set_up_logging
from pgqueue.enqueueing.batch import Batch
from pgqueue.events import AttemptEnded, AttemptsEnded, JobMoved, JobRescued, JobsPromoted, JobsRescued
from pgqueue.logs import RECORD, JobLogFilter, JsonFormatter, TransitionLog
from pgqueue.model.ids import new_id
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.store import Promoted

if TYPE_CHECKING:
    from conftest import Connection

SECRET = "4111 1111 1111 1111"


class DeclinedError(Exception):
    """A way for a payment to end."""


@pytest.fixture
def all_records(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """What "pgqueue.jobs" has logged."""
    with kept_records(caplog) as found:
        yield found


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """What "pgqueue.jobs" has logged of jobs once they were enqueued."""
    with kept_records(caplog, leaving_out={"job.enqueued"}) as found:
        yield found


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

    # Whoever promotes jobs hears of it on a connection of its own: before or behind who claims them.
    [promoted] = [each for each in of(records) if each.event == "job.promoted"]
    assert promoted.levelname == "INFO"
    assert [(each.event, each.levelname) for each in of(records) if each is not promoted] == [
        ("job.started", "INFO"),
        ("job.retrying", "WARNING"),
        ("job.started", "INFO"),
        ("job.failed", "ERROR"),
    ]
    assert fields(promoted, "job_id", "task", "queue", "from_status", "to_status", "attempt") == (
        str(job.id),
        "work",
        "mail",
        "scheduled",
        "pending",
        1,
    )
    of_attempts = [each for each in of(records) if each is not promoted]
    for number, record in enumerate(of_attempts):
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
    started, retrying, _, failed = of_attempts
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
    assert "Traceback" not in failed.getMessage()
    assert (type(failed.exc_info[1]), retrying.exc_info) == (ValueError, None)
    assert_told_of_raise(failed, "ValueError: no answer")


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
    assert (ended.exc_info is None) is (how != "reject")


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

    make_log().observe(JobsRescued(2, [lost], "w1", jobs))

    assert [
        (each.event, each.levelname, each.job_id, each.from_status, each.to_status, each.reason)
        for each in of(records)
    ] == [
        ("job.lost", "WARNING", str(back), "running", "pending", "lost"),
        ("job.lost", "WARNING", str(ahead), "pending", "pending", "lost"),
        ("job.failed", "ERROR", str(lost), "running", "failed", "worker_lost"),
    ]
    # Whoever collects errors groups them by it.
    assert [each.exc_info and each.exc_info[0].__name__ for each in of(records)] == [None, None, "WorkerLost"]


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
        await eventually(lambda: has_status(expiring, JobStatus.EXPIRED))

    assert [fields(each, "event", "job_id", "to_status", "reason") for each in records] == [
        ("job.cancelled", str(one.id), "cancelled", "changed my mind"),
        ("job.cancelled", str(many.id), "cancelled", "too late"),
        ("job.expired", str(expiring.id), "expired", "expired"),
    ]


@pytest.mark.contract("BP7")
async def test_a_rescue_says_of_each_job_what_its_record_needs(pgq: PgQueue, db: Connection) -> None:
    heard: list[Any] = []
    inside.observers(pgq).add(heard.append, JobsRescued)

    @pgq.task
    async def work() -> None: ...

    job = await work.options(queue="mail").enqueue()
    lease_id = new_id()
    async with inside.database(pgq).acquire() as connection:
        await inside.store(pgq).register_lease(
            connection, lease_id, "ghost", ["mail"], 60, prefetch=0, lock_key=None, max_losses={}
        )
        lanes = await inside.store(pgq).find_lanes(connection, ["mail"], [])
        await inside.store(pgq).claim(connection, lease_id, 1, [(lanes[0].id, 0)])
        await connection.execute("update pgqueue.lease set expires_at = now() where id = $1", lease_id)
    async with pgq.worker(queues=["none"]):
        await eventually(lambda: is_heard(heard))

    assert heard[0].jobs == [JobRescued(job.id, "work", "mail", 1, True, JobStatus.PENDING)]


def test_a_success_that_nobody_wants_to_read_about_makes_no_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pgqueue.jobs")
    ended = AttemptEnded(new_id(), "work", "q", 1, JobStatus.SUCCEEDED, None, 0.1)

    class Unread(AttemptsEnded):
        """Notes whether it is read."""

        read = 0

        @property
        def attempts(self) -> list[AttemptEnded]:
            Unread.read += 1
            return [ended]

    make_log().observe(Unread(is_success=True))
    assert Unread.read == 0
    make_log().observe(Unread(is_success=False))

    assert Unread.read == 1


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


def make_log(share: float = 1.0, *, redacts: bool = False) -> TransitionLog:
    return TransitionLog(
        lambda _task, _queue: share, lambda _task, _queue: redacts, lambda _task, _queue, level: level >= 40
    )


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
        set_up_logging(Level.INFO, every_job=every_job, form=LogFormat.TEXT)
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


@pytest.mark.contract("BP7")
@pytest.mark.parametrize(
    ("form", "is_terminal", "is_json"),
    [
        (LogFormat.AUTO, False, True),
        (LogFormat.AUTO, True, False),
        (LogFormat.TEXT, False, False),
        (LogFormat.TEXT, True, False),
        (LogFormat.JSON, True, True),
    ],
)
def test_records_are_for_eyes_on_a_terminal_and_json_elsewhere(
    monkeypatch: pytest.MonkeyPatch, form: LogFormat, is_terminal: bool, is_json: bool
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    before = root.level

    try:
        set_up_logging(Level.INFO, every_job=True, form=form)
        [handler] = root.handlers
    finally:
        root.setLevel(before)

    assert isinstance(handler.formatter, JsonFormatter) is is_json
    # A statement that failed is named in either form.
    record = logging.LogRecord("pgqueue.worker", logging.ERROR, "", 0, "it failed", (), None)
    record.statement = "upkeep/promote"
    line = handler.format(record)
    assert json.loads(line)["statement"] == "upkeep/promote" if is_json else line.endswith("upkeep/promote]")


HOSTILE = 'boom "\n2026-01-01 ERROR root: forged\r\x1b[2J\u2028\u202e\ud800\0'


@pytest.mark.contract("BP7")
def test_a_record_is_one_line_of_json_whatever_is_in_it() -> None:
    record = failed_record(HOSTILE)

    line = JsonFormatter().format(record)

    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert found["error_type"] == HOSTILE
    assert HOSTILE in found["message"]
    assert found["next_in"] == "inf"
    assert found["exception"].startswith("ValueError: boom")
    assert datetime.fromisoformat(found["time"]).utcoffset() == timedelta(0)
    assert (found["level"], found["logger"], found["event"]) == ("ERROR", "pgqueue.jobs", "job.failed")
    assert "worker" not in found


@pytest.mark.contract("BP7")
def test_no_text_passes_for_a_record_or_is_obeyed_by_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    try:
        set_up_logging(Level.INFO, every_job=True, form=LogFormat.TEXT)
        [handler] = root.handlers
    finally:
        root.setLevel(before)

    text = handler.format(failed_record(HOSTILE))

    first, *others = text.split("\n")
    assert "job.failed" in first
    assert others
    assert all(line.startswith("    ") for line in others)
    assert all(line.isprintable() for line in (first, *others))


def failed_record(text: str) -> logging.LogRecord:
    error = ValueError(text)
    found = (ValueError, error, None)
    record = logging.LogRecord("pgqueue.jobs", logging.ERROR, "", 0, "job.failed: %s", (text,), found)
    vars(record).update(dict.fromkeys(RECORD))
    vars(record).update(event="job.failed", error_type=text, next_in=float("inf"))
    return record


@pytest.mark.contract("BP7")
async def test_what_befalls_a_job_before_it_starts_is_logged_too(
    pgq: PgQueue, db: Connection, all_records: list[logging.LogRecord]
) -> None:
    @pgq.task
    async def work() -> None: ...

    soon = await work.options(queue="mail", delay=3600).enqueue()
    due = await work.options(run_at=datetime(2020, 1, 1, tzinfo=UTC)).enqueue()
    first = await work.options(idempotency_key="k", on_conflict="coalesce", queue="other").enqueue()
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.scheduled set scheduled_at = now() where job_id = $1", soon.id)
    async with pgq.worker(queues=["none"]):
        await eventually(lambda: has_status(soon, JobStatus.PENDING))
        await eventually(lambda: has_logged(all_records, 4))

    names = ("event", "job_id", "task", "queue", "from_status", "to_status", "attempt")
    assert [fields(each, *names) for each in all_records] == [
        ("job.enqueued", str(soon.id), "work", "mail", None, "scheduled", 0),
        ("job.enqueued", str(due.id), "work", "default", None, "pending", 0),
        ("job.enqueued", str(first.id), "work", "other", None, "pending", 0),
        ("job.promoted", str(soon.id), "work", "mail", "scheduled", "pending", 0),
    ]


@pytest.mark.contract("BP7")
async def test_an_enqueue_in_a_transaction_that_is_open_says_so(
    pgq: PgQueue, dsn: str, all_records: list[logging.LogRecord]
) -> None:
    @pgq.task
    async def work() -> None: ...

    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await pgq.enqueue(work.s(), connection=connection)
    await connection.close()

    assert [fields(each, "event", "reason") for each in all_records] == [("job.enqueued", "in_transaction")]


@pytest.mark.contract("BP7")
async def test_what_operators_do_to_a_job_is_logged(pgq: PgQueue, records: list[logging.LogRecord]) -> None:
    running = asyncio.Event()

    @pgq.task(max_retries=0)
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError
        running.set()
        await asyncio.Event().wait()

    failing = await work.enqueue(True)
    async with pgq.worker():
        await eventually(lambda: has_status(failing, JobStatus.FAILED))
    await pgq.redrive(failing.id, reason="fixed")
    await pgq.cancel(failing.id)
    await pgq.requeue(failing.id, reason="once more")
    await pgq.cancel(failing.id)
    endless = await work.enqueue(False)
    async with pgq.worker():
        await running.wait()
        await endless.cancel(reason="enough")
        await eventually(lambda: has_status(endless, JobStatus.CANCELLED))
        await eventually(lambda: has_logged(records, 9))

    names = ("event", "from_status", "to_status", "reason")
    assert [fields(each, *names) for each in records[2:6]] == [
        ("job.redriven", None, "pending", "fixed"),
        ("job.cancelled", "pending", "cancelled", None),
        ("job.requeued", None, "pending", "once more"),
        ("job.cancelled", "pending", "cancelled", None),
    ]
    assert [fields(each, *names) for each in records[6:]] == [
        ("job.started", "pending", "running", None),
        ("job.cancel_requested", "running", "running", "enough"),
        ("job.cancelled", "running", "cancelled", "cancelled"),
    ]


@pytest.mark.contract("BP7")
async def test_what_goes_well_is_logged_of_the_jobs_that_their_task_says(
    dsn: str, all_records: list[logging.LogRecord]
) -> None:
    async with PgQueue(dsn, log="failures") as pgq:

        @pgq.task
        async def quiet() -> None: ...

        @pgq.task(max_retries=0)
        async def broken() -> None:
            raise ValueError

        @pgq.task(log="all")
        async def loud() -> None: ...

        jobs = await pgq.enqueue_many([quiet.s(), broken.s(), loud.s()])
        async with pgq.worker():
            for job in jobs:
                await eventually(lambda job=job: is_over(pgq, job.id))  # type: ignore[misc]
            await eventually(lambda: has_logged(all_records, 4))

    assert sorted(fields(each, "task", "event") for each in all_records) == [
        ("broken", "job.failed"),
        ("loud", "job.enqueued"),
        ("loud", "job.started"),
        ("loud", "job.succeeded"),
    ]


@pytest.mark.contract("BP7")
def test_of_a_sampled_job_all_of_it_is_logged_or_nothing(records: list[logging.LogRecord]) -> None:
    log, ids = make_log(0.25), [new_id() for _ in range(400)]
    promoted = [JobMoved(each, "work", "q", JobStatus.SCHEDULED, JobStatus.PENDING) for each in ids]

    log.observe_if_verbose(JobsPromoted(promoted))
    log.observe(
        AttemptsEnded(
            [AttemptEnded(each, "work", "q", 1, JobStatus.SUCCEEDED, None, 0.1) for each in ids],
            is_success=True,
        )
    )

    by_event = {
        event: {each.job_id for each in of(records) if each.event == event}
        for event in ("job.promoted", "job.succeeded")
    }
    assert by_event["job.promoted"] == by_event["job.succeeded"]
    # Within five standard deviations.
    assert 56 <= len(by_event["job.promoted"]) <= 144


def test_a_share_of_jobs_is_between_none_and_all(pgq: PgQueue) -> None:
    for wrong in ("some", 1.5, -0.1, float("nan"), True, None):
        with pytest.raises(InvalidOptionError, match="'all', 'failures' or a fraction from 0 to 1"):
            pgq.queue("mail", log=wrong)  # type: ignore[arg-type]  # that is the test


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("redacts", [True, False])
def test_an_error_that_quotes_arguments_is_not_shown_where_they_are_redacted(
    records: list[logging.LogRecord], redacts: bool
) -> None:
    error = JobError("InvalidArgumentsError", f"card: {SECRET} is no number", f"Traceback\n{SECRET}")
    ended = AttemptEnded(new_id(), "work", "q", 1, JobStatus.FAILED, "invalid_arguments", 0.1, error=error)

    make_log(redacts=redacts).observe(AttemptsEnded([ended]))

    [record] = of(records)
    assert record.error_type == "InvalidArgumentsError"
    assert (SECRET in record.getMessage()) is not redacts


@pytest.mark.contract("BP7")
async def test_while_nobody_reads_what_goes_well_no_record_of_it_is_made(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "pgqueue.jobs")
    told: list[object] = []
    monkeypatch.setattr(Batch, "created_jobs", told.append)
    promote = inside.store(pgq).promote

    async def watched(*given: Any, names_jobs: bool) -> Promoted:
        told.extend([names_jobs] if names_jobs else [])
        return await promote(*given, names_jobs=names_jobs)

    monkeypatch.setattr(inside.store(pgq), "promote", watched)

    @pgq.task
    async def work() -> None: ...

    job = await work.options(delay=3600).enqueue()
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.scheduled set scheduled_at = now()")
    async with pgq.worker(queues=["none"]):
        await eventually(lambda: has_status(job, JobStatus.PENDING))

    assert told == []


def assert_told_of_raise(record: logging.LogRecord, message: str) -> None:
    """Assert that *record* has where this file raised an error, as frames and as text."""
    assert record.exc_info is not None
    assert record.exc_text is not None
    assert [frame.f_code.co_filename for frame, _ in walk_tb(record.exc_info[2])] == [__file__]
    assert [frame.f_locals for frame, _ in walk_tb(record.exc_info[2])] == [{}]
    assert record.exc_text.endswith(f"\n{message}")
    assert __file__ in record.exc_text


def fields(record: logging.LogRecord, *names: str) -> tuple[Any, ...]:
    return tuple(vars(record)[name] for name in names)
