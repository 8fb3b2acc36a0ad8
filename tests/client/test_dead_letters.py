"""Dead letters: what has failed is kept whole, can be looked at, and is made pending again or discarded."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.faults import expire_lease, ghost
from kit.waiting import eventually

from pgqueue import (
    DeadLetter,
    DeadLetterFilter,
    InvalidArgumentsError,
    InvalidFilterError,
    InvalidOptionError,
    JobFailed,
    JobHandle,
    JobNotFoundError,
    JobStatus,
    NotADeadLetterError,
    PgQueue,
    UnknownQueueError,
)
from pgqueue.database.sql import load_migrations
from pgqueue.model.dead_letters import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from conftest import Connection

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Webhook:
    """A task that fails until it is told not to, and the jobs of it that tests make."""

    def __init__(self, queue: PgQueue) -> None:
        self.is_broken = True
        self.seen: list[dict[str, Any]] = []

        @queue.task(max_retries=0)
        async def webhook(url: str, kind: str = "error") -> str:
            self.seen.append({"url": url, "kind": kind})
            if self.is_broken:
                if kind == "lookup":
                    raise LookupError(f"nobody at {url}")
                raise ValueError(f"{url} answered 500")
            return "sent"

        self.task = webhook
        self._queue = queue

    async def fail(self, *urls: str, **options: Any) -> list[JobHandle[Any]]:
        """Have a job fail for each of *urls*."""
        task = self.task.options(**options) if options else self.task
        jobs = await self._queue.enqueue_many([task.s(url, "error") for url in urls])
        async with self._queue.worker(queues=[options.get("queue", "default")]):
            for job in jobs:
                with pytest.raises(JobFailed):
                    await job.result(timeout=60)
        return jobs


@pytest.fixture
def webhook(pgq: PgQueue) -> Webhook:
    return Webhook(pgq)


async def count(db: Connection, table: str) -> int:
    found: int = await db.fetchval(f"select count(*) from pgqueue.{table}")
    return found


async def bury(db: Connection, number: int, **columns: str) -> None:
    """Make dead letters directly, a second apart, the last one now."""
    values = {"task": "old", "queue": "default", "reason": "exception", "fingerprint": "f", **columns}
    await db.execute(
        "insert into pgqueue.dead_letter (job_id, failed_at, task, queue, reason, fingerprint, attempt) "
        "select gen_random_uuid(), now() - n * interval '1 second', $2, $3, $4, $5, 1 "
        "from generate_series(0, $1 - 1) as n",
        number,
        *values.values(),
    )


async def enqueue_unchecked(pgq: PgQueue, db: Connection, task: str, payload: str) -> JobHandle[Any]:
    """Enqueue from SQL, where nobody knows the task."""
    return pgq.handle(await db.fetchval("select pgqueue.enqueue($1, $2)", task, payload))


# Entering


@pytest.mark.contract("P5.1", "P5.3", "BP6")
async def test_a_job_that_exhausts_its_retries_is_a_dead_letter_without_being_asked_for(
    pgq: PgQueue,
) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0.001)
    async def work() -> None:
        raise ValueError("no")

    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await job.result(timeout=60)

    [letter] = (await pgq.dead_letters()).letters
    assert (letter.job_id, letter.task, letter.queue) == (job.id, "work", "default")
    assert (letter.reason, letter.error_type, letter.message) == ("exception", "ValueError", "no")
    assert letter.attempt == 2
    assert letter.failed_at == (await job.refresh()).completed_at


@pytest.mark.contract("P5.1")
@pytest.mark.parametrize("retries", [0, 1])
async def test_a_timeout_that_exhausts_the_retries_is_one(pgq: PgQueue, retries: int) -> None:
    @pgq.task(max_retries=retries, default_retry_delay=0.001, timeout=0.05)
    async def work() -> None:
        await anyio.sleep(3600)

    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await job.result(timeout=60)

    [letter] = (await pgq.dead_letters()).letters
    assert (letter.reason, letter.attempt) == ("hard_timeout", retries + 1)


@pytest.mark.contract("P5.1", "P5.11")
async def test_a_payload_that_cannot_be_decoded_is_one_and_stops_nobody(pgq: PgQueue, db: Connection) -> None:
    inside.end_grace(pgq)

    @pgq.task
    async def work(number: int) -> int:
        return number

    bad = await enqueue_unchecked(pgq, db, "work", '{"number":"seven"}')
    good = await work.enqueue(7)
    async with pgq.worker(concurrency=1):
        assert await good.result(timeout=60) == 7
        with pytest.raises(JobFailed):
            await bad.result(timeout=60)

    [letter] = (await pgq.dead_letters()).letters
    assert (letter.job_id, letter.reason, letter.attempt) == (bad.id, "undecodable", 1)


@pytest.mark.contract("P5.1", "P5.3", "P5.9")
async def test_a_job_lost_too_often_is_one(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(max_losses=0)
    async def work() -> None: ...

    job = await work.enqueue()
    async with ghost(pgq, max_losses={"work": 0}) as lost:
        await lost.claim()
        await expire_lease(db, lost.lease_id)
        async with pgq.worker():
            with pytest.raises(JobFailed):
                await job.result(timeout=60)

    [letter] = (await pgq.dead_letters()).letters
    assert (letter.job_id, letter.reason, letter.worker) == (job.id, "worker_lost", "ghost")


@pytest.mark.contract("P5.1", "P5.3")
async def test_a_job_failed_by_hand_is_one(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work")

    await db.execute("select pgqueue.transition($1, 'failed', reason => 'told so')", job.id)

    [letter] = (await pgq.dead_letters()).letters
    assert (letter.job_id, letter.reason) == (job.id, "told so")
    assert [attempt.reason for attempt in await pgq.attempts(job.id)] == ["told so"]


@pytest.mark.contract("P5.3")
async def test_what_does_not_fail_is_no_dead_letter(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0.001)
    async def work(fail: bool) -> None:
        if fail and len(await pgq.attempts(again.id)) == 0:
            raise ValueError

    again = await pgq.enqueue_by_name("work", fail=True)
    fine = await work.enqueue(False)
    cancelled = await work.options(delay=3600).enqueue(False)
    await cancelled.cancel()
    async with pgq.worker():
        await again.result(timeout=60)
        await fine.result(timeout=60)

    assert await count(db, "attempt") == 1
    assert await count(db, "dead_letter") == 0


@pytest.mark.contract("P5.3")
async def test_a_dead_letter_is_committed_with_the_failure_or_not_at_all(
    pgq: PgQueue, db: Connection
) -> None:
    job = await pgq.enqueue_by_name("work")
    async with ghost(pgq) as worker:
        await worker.claim()
        transaction = worker.connection.transaction()
        await transaction.start()
        await worker.connection.execute(
            "select pgqueue.transition($1, 'failed', $2)", job.id, worker.lease_id
        )
        inside = await worker.connection.fetchval("select count(*) from pgqueue.dead_letter")
        await transaction.rollback()

        assert inside == 1
        assert await count(db, "dead_letter") == 0
        assert await job.status() is JobStatus.RUNNING


@pytest.mark.contract("P5.3", "P4.3")
async def test_each_generation_enters_once(pgq: PgQueue, webhook: Webhook, db: Connection) -> None:
    [job] = await webhook.fail("a.example")
    [first] = (await pgq.dead_letters()).letters

    # Whatever else is noted of a failed job, it does not enter again.
    await db.execute("insert into pgqueue.attempt (job_id, attempt, reason) values ($1, 1, 'again')", job.id)
    assert (await pgq.dead_letters()).letters == [first]
    await pgq.redrive(job.id)
    assert await count(db, "dead_letter") == 0
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await job.result(timeout=60)

    [second] = (await pgq.dead_letters()).letters
    assert second.job_id == first.job_id
    assert second.failed_at > first.failed_at


# What an entry holds


@pytest.mark.contract("P5.2", "P4.15")
async def test_a_dead_letter_holds_everything_that_is_known_of_the_job(dsn: str, db: Connection) -> None:
    payload = '{ "url":"https://a.example/\\u00e9" ,"n":1.50, "n2": 1e400 }'
    async with PgQueue(dsn, version="build 7") as pgq:

        @pgq.task(max_retries=2, default_retry_delay=0.001)
        async def process(url: str, n: float, n2: float) -> None:
            raise ConnectionError("line one\nline two")

        job_id: UUID = await db.fetchval("select pgqueue.enqueue('process', $1, queue => 'hooks')", payload)
        await db.execute("set pgqueue.writer to 'on'")
        headers = json.dumps({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        await db.execute("update pgqueue.job set headers = $2 where id = $1", job_id, headers)
        async with pgq.worker(queues=["hooks"], name="worker-1"):
            with pytest.raises(JobFailed):
                await pgq.handle(job_id).result(timeout=60)
        found = await pgq.dead_letter(job_id)

    letter, job = found.letter, found.job
    assert (letter.task, letter.job_id, letter.queue) == ("process", job_id, "hooks")
    assert found.payload == payload
    assert (letter.reason, letter.error_type, letter.message) == ("exception", "ConnectionError", "line one")
    assert job.error is not None
    assert job.error.message == "line one\nline two"
    assert "raise ConnectionError" in str(job.error.traceback)
    assert (letter.attempt, letter.worker, letter.version) == (3, "worker-1", "build 7")
    assert job.created_at < letter.failed_at
    assert letter.failed_at == job.completed_at
    assert found.trace_id == TRACE
    assert [(past.attempt, past.worker, past.version, past.reason) for past in found.attempts] == [
        (number, "worker-1", "build 7", "exception") for number in (1, 2, 3)
    ]
    assert all(past.error is not None and past.started_at is not None for past in found.attempts)
    assert found.actions == []


@pytest.mark.contract("P5.4")
async def test_looking_changes_nothing(pgq: PgQueue, webhook: Webhook, db: Connection) -> None:
    [job] = await webhook.fail("a.example")

    async def everything() -> list[Any]:
        tables = ["job", "attempt", "dead_letter", "action", "ready"]
        # xmin: a row that was written again is another one, though it looks the same.
        return [
            [tuple(row) for row in await db.fetch(f"select xmin::text, * from pgqueue.{table}")]
            for table in tables
        ]

    before = await everything()

    for _ in range(3):
        await pgq.dead_letters()
        await pgq.dead_letter(job.id)
        await pgq.dead_groups()
    assert await everything() == before


@pytest.mark.contract("P5.4")
async def test_dead_letters_are_found_by_each_of_their_properties(
    pgq: PgQueue, webhook: Webhook, db: Connection
) -> None:
    @pgq.task(max_retries=0, queue="slow")
    async def other() -> None:
        raise LookupError("x")

    [one] = await webhook.fail("a.example")
    two = await other.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await two.result(timeout=60)
    by_hand = await pgq.enqueue_by_name("third", options={"queue": "third"})
    await db.execute("select pgqueue.transition($1, 'failed', reason => 'told so')", by_hand.id)
    letters = {letter.job_id: letter for letter in (await pgq.dead_letters()).letters}

    async def found(**wanted: Any) -> set[UUID]:
        page = await pgq.dead_letters(DeadLetterFilter(**wanted))
        return {letter.job_id for letter in page.letters}

    assert letters.keys() == {one.id, two.id, by_hand.id}
    assert await found(task="webhook") == {one.id}
    assert await found(queue="slow") == {two.id}
    assert await found(reason="told so") == {by_hand.id}
    assert await found(error_type="LookupError") == {two.id}
    assert await found(fingerprint=letters[one.id].fingerprint) == {one.id}
    assert await found(failed_after=letters[two.id].failed_at) == {two.id, by_hand.id}
    assert await found(failed_before=letters[two.id].failed_at) == {one.id}
    assert await found(task="webhook", queue="slow") == set()
    assert await found(task="'; drop table pgqueue.dead_letter; --") == set()


@pytest.mark.contract("P5.4")
async def test_pages_hold_each_dead_letter_once_newest_first(pgq: PgQueue, db: Connection) -> None:
    await bury(db, 10)
    # Two of one moment are told apart by their jobs.
    await db.execute(
        "update pgqueue.dead_letter set failed_at = now() where failed_at < now() - interval '4 s'"
    )

    letters: list[DeadLetter] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await pgq.dead_letters(limit=3, cursor=cursor)
        letters += page.letters
        cursor, pages = page.cursor, pages + 1

    assert pages == 4
    assert len({letter.job_id for letter in letters}) == 10
    assert letters == sorted(letters, key=lambda each: (each.failed_at, each.job_id), reverse=True)


@given(
    seconds=st.integers(min_value=0, max_value=2**33), microseconds=st.integers(0, 999_999), job_id=st.uuids()
)
def test_a_cursor_carries_the_exact_place(seconds: int, microseconds: int, job_id: UUID) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=microseconds)
    letter = DeadLetter(job_id, at, "t", "q", "r", "f", None, None, 1, None, None)

    assert decode_cursor(encode_cursor(letter)) == (at, job_id)


@given(st.text())
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilterError, match="invalid cursor"):
        decode_cursor(text)


# Groups


ALIKE = [
    ("order 17 is gone", "order 4711 is gone"),
    ("no file 'a.txt'", "no file 'b c.txt'"),
    ('no "x"', 'no "yy"'),
    ("user 0190e5a1-7c1b-7def-8000-0123456789ab", "user 0190E5A1-7C1B-7DEF-8000-FFFFFFFFFFFF"),
    ("at 0x7f3a2b", "at 0xdeadbeef"),
    ("commit 3f2a9c1d7b", "commit 0011aabbcc"),
    ("took 1.5 s", "took 12,000.25 s"),
    ("at 2026-01-02T03:04:05", "at 2027-11-12T13:14:15"),
]
DIFFERENT = [
    ("order is gone", "order is late"),
    ("can't open door", "can't open window"),
    ("facade", "decade"),
    ("", "x"),
]


@pytest.mark.contract("P5.4")
@pytest.mark.parametrize(("one", "other"), ALIKE)
async def test_errors_that_differ_in_numbers_ids_and_quotes_have_one_fingerprint(
    db: Connection, one: str, other: str
) -> None:
    assert await fingerprint(db, message=one) == await fingerprint(db, message=other)


@pytest.mark.contract("P5.4")
@pytest.mark.parametrize(("one", "other"), DIFFERENT)
async def test_errors_that_say_something_else_have_another_fingerprint(
    db: Connection, one: str, other: str
) -> None:
    assert await fingerprint(db, message=one) != await fingerprint(db, message=other)


@pytest.mark.contract("P5.4")
@pytest.mark.parametrize("part", ["task", "reason", "error_type", "message"])
async def test_a_fingerprint_is_of_the_task_the_reason_and_the_error(db: Connection, part: str) -> None:
    assert await fingerprint(db, **{part: "another"}) != await fingerprint(db)


async def fingerprint(db: Connection, **parts: str) -> str:
    values = {"task": "t", "reason": "exception", "error_type": "ValueError", "message": "no", **parts}
    found: str = await db.fetchval("select pgqueue.fingerprint($1, $2, $3, $4)", *values.values())
    return found


@pytest.mark.contract("P5.4")
async def test_dead_letters_are_grouped_by_what_went_wrong(pgq: PgQueue, webhook: Webhook) -> None:
    jobs = await webhook.fail("https://1.example", "https://22.example")
    lookup = await webhook.task.enqueue("a", "lookup")
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await lookup.result(timeout=60)

    groups = await pgq.dead_groups()
    letters = {letter.job_id: letter for letter in (await pgq.dead_letters()).letters}

    assert [(group.latest.error_type, group.count) for group in groups] == [
        ("LookupError", 1),
        ("ValueError", 2),
    ]
    times = sorted(letters[job.id].failed_at for job in jobs)
    assert groups[1].first_at == times[0]
    assert groups[1].latest.failed_at == times[1]
    assert [group.count for group in await pgq.dead_groups(error_type="ValueError")] == [2]
    assert [group.count for group in await pgq.dead_groups(error_type="ValueError", cap=1)] == [1]
    assert await pgq.dead_groups(task="nobody") == []


# Redrive


@pytest.mark.contract("P5.5", "P4.3", "P4.15", "P4.5")
async def test_a_redriven_job_runs_again_under_its_id_with_its_history(
    pgq: PgQueue, webhook: Webhook, db: Connection
) -> None:
    [job] = await webhook.fail("a.example")
    failed = await job.refresh()

    await pgq.redrive(job.id, reason="they are back", actor="ada")
    opened = await job.refresh()
    webhook.is_broken = False
    async with pgq.worker():
        assert await job.result(timeout=60) == "sent"

    assert (opened.status, opened.attempt, opened.losses) == (JobStatus.PENDING, 0, 0)
    assert (opened.started_at, opened.completed_at, opened.worker) == (None, None, None)
    assert (opened.reason, opened.error, opened.has_result) == (None, None, False)
    assert (opened.created_at, opened.arguments) == (failed.created_at, failed.arguments)
    assert (await job.refresh()).attempt == 1
    assert [past.reason for past in await pgq.attempts(job.id)] == ["exception"]
    [action] = await pgq.actions(job.id)
    assert (action.action, action.reason, action.actor, action.attempt) == (
        "redriven",
        "they are back",
        "ada",
        1,
    )
    assert await count(db, "dead_letter") == 0


@pytest.mark.contract("P5.5")
async def test_a_redrive_wakes_a_worker_that_waits(pgq: PgQueue, webhook: Webhook, dsn: str) -> None:
    [job] = await webhook.fail("a.example")
    webhook.is_broken = False

    async with pgq.worker(poll_interval=3600) as worker, PgQueue(dsn) as elsewhere:
        await worker.wait_ready()
        await elsewhere.redrive(job.id)

        assert await job.result(timeout=60) == "sent"


@pytest.mark.contract("P5.5")
async def test_a_redrive_can_go_to_another_queue(pgq: PgQueue, webhook: Webhook) -> None:
    [job] = await webhook.fail("a.example", priority=7)
    webhook.is_broken = False

    await pgq.redrive(job.id, queue="repairs")
    opened = await job.refresh()
    async with pgq.worker(queues=["repairs"]):
        assert await job.result(timeout=60) == "sent"

    assert (opened.queue, opened.priority) == ("repairs", 7)


@pytest.mark.contract("P5.5")
async def test_a_redrive_that_keeps_the_attempts_has_one_more(pgq: PgQueue) -> None:
    runs: list[int] = []

    @pgq.task(max_retries=2, default_retry_delay=0.001)
    async def work() -> None:
        runs.append(1)
        raise ValueError

    job = await work.enqueue()
    async with pgq.worker():
        for expected in (3, 4):
            with pytest.raises(JobFailed):
                await job.result(timeout=60)
            assert len(runs) == expected
            await pgq.redrive(job.id, reset_attempts=expected == 4)
        with pytest.raises(JobFailed):
            await job.result(timeout=60)

    assert len(runs) == 7
    assert (await job.refresh()).attempt == 3


@pytest.mark.contract("P5.5", "P5.11")
async def test_a_redrive_with_other_arguments_mends_a_payload_that_could_not_be_decoded(
    pgq: PgQueue, db: Connection
) -> None:
    inside.end_grace(pgq)

    @pgq.task
    async def work(number: int) -> int:
        return number

    job = await enqueue_unchecked(pgq, db, "work", '{"number":"seven"}')
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await job.result(timeout=60)
        with pytest.raises(InvalidArgumentsError, match="number"):
            await pgq.redrive(job.id, arguments={"number": "eight"})
        unchanged = await pgq.dead_letter(job.id)
        await pgq.redrive(job.id, arguments={"number": 7})

        assert await job.result(timeout=60) == 7
    assert unchanged.payload == '{"number":"seven"}'


@pytest.mark.contract("P5.5")
async def test_a_redriven_job_does_not_expire_by_the_time_it_was_first_given(
    pgq: PgQueue, webhook: Webhook, db: Connection
) -> None:
    [job] = await webhook.fail("a.example", expires=3600)
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.job set expires_at = now() - interval '1 second'")
    webhook.is_broken = False

    await pgq.redrive(job.id)
    async with pgq.worker():
        assert await job.result(timeout=60) == "sent"


@pytest.mark.contract("P5.5")
async def test_a_cancellation_that_came_too_late_for_the_failure_does_not_end_the_redriven_job(
    pgq: PgQueue, webhook: Webhook, db: Connection
) -> None:
    [job] = await webhook.fail("a.example")
    await db.execute(
        "insert into pgqueue.cancel_request (job_id, lease_id) values ($1, gen_random_uuid())", job.id
    )
    webhook.is_broken = False

    await pgq.redrive(job.id)
    async with inside.database(pgq).acquire() as connection:
        await inside.store(pgq).carry_out_cancels(connection, 100)
    async with pgq.worker():
        assert await job.result(timeout=60) == "sent"


@pytest.mark.contract("P5.5", "P4.3")
async def test_only_what_has_failed_is_redriven_or_discarded(
    pgq: PgQueue, webhook: Webhook, db: Connection
) -> None:
    webhook.is_broken = False
    done = await webhook.task.enqueue("a.example")
    async with pgq.worker():
        await done.result(timeout=60)
    waiting = await webhook.task.enqueue("a.example")
    gone = await webhook.task.options(delay=60).enqueue("a.example")
    await gone.cancel()
    rows = await db.fetch("select * from pgqueue.job order by id")

    for job, status in ((done, "succeeded"), (waiting, "pending"), (gone, "cancelled")):
        said = f"job {job.id} is not a dead letter: its status is {status}, not failed"
        for call in (pgq.redrive, pgq.discard, pgq.dead_letter):
            with pytest.raises(NotADeadLetterError, match=said) as raised:
                await call(job.id)
            assert (raised.value.job_id, raised.value.status) == (job.id, status)
        with pytest.raises(asyncpg.RestrictViolationError, match=f"job {job.id} is {status}: only a job"):
            await db.execute("select pgqueue.redrive($1)", job.id)
    unknown = uuid4()
    for call in (pgq.redrive, pgq.discard, pgq.dead_letter):
        with pytest.raises(JobNotFoundError, match=str(unknown)):
            await call(unknown)
    with pytest.raises(asyncpg.NoDataFoundError):
        await db.execute("select pgqueue.discard($1)", unknown)

    assert await db.fetch("select * from pgqueue.job order by id") == rows
    assert (await pgq.actions(done.id), await pgq.actions(waiting.id)) == ([], [])


async def test_a_redrive_that_cannot_be_says_so_and_changes_nothing(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, strict_queues=True) as pgq:
        webhook = Webhook(pgq)
        [job] = await webhook.fail("a.example")
        with pytest.raises(InvalidArgumentsError, match="url"):
            await pgq.redrive(job.id, arguments={})
        with pytest.raises(UnknownQueueError, match="'nowhere' is not declared"):
            await pgq.redrive(job.id, queue="nowhere")
        with pytest.raises(InvalidOptionError, match="queue"):
            await pgq.redrive(job.id, queue="")
        for document in ("7", "null", '"x"'):
            with pytest.raises(asyncpg.InvalidParameterValueError):
                await db.execute("select pgqueue.redrive($1, arguments => $2::json)", job.id, document)

        assert [letter.job_id for letter in (await pgq.dead_letters()).letters] == [job.id]
        assert await pgq.actions(job.id) == []


@pytest.mark.contract("P5.5", "P5.3")
async def test_of_many_redrives_at_once_one_requeues_the_job(
    pgq: PgQueue, webhook: Webhook, db: Connection
) -> None:
    [job] = await webhook.fail("a.example")
    won: list[int] = []

    async def redrive(number: int) -> None:
        try:
            await pgq.redrive(job.id)
        except NotADeadLetterError:
            return
        won.append(number)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(redrive, number)

    assert len(won) == 1
    assert await count(db, "ready") == 1
    assert len(await pgq.actions(job.id)) == 1


# Discard


@pytest.mark.contract("P5.8", "P4.3", "P4.5")
async def test_a_discarded_job_stays_failed_and_leaves_the_dead_letters(
    pgq: PgQueue, webhook: Webhook
) -> None:
    [job] = await webhook.fail("a.example")
    failed = await job.refresh()

    assert await pgq.discard(job.id, reason="customer left", actor="ada") is True
    assert await pgq.discard(job.id) is False

    assert await job.refresh() == failed
    assert (await pgq.dead_letters()).letters == []
    assert await pgq.dead_groups() == []
    [action] = await pgq.actions(job.id)
    assert (action.action, action.reason, action.actor) == ("discarded", "customer left", "ada")
    with pytest.raises(NotADeadLetterError, match="it was discarded"):
        await pgq.dead_letter(job.id)


@pytest.mark.contract("P5.8")
async def test_a_dead_letters_age_counts_from_its_failure(
    pgq: PgQueue, webhook: Webhook, db: Connection
) -> None:
    await db.execute("set pgqueue.writer to 'on'")
    old = await webhook.task.enqueue("a.example")
    await db.execute("update pgqueue.job set created_at = now() - interval '1 year'")

    async with pgq.worker():
        with pytest.raises(JobFailed):
            await old.result(timeout=60)

    recent = datetime.now(UTC) - timedelta(days=1)
    [letter] = (await pgq.dead_letters(DeadLetterFilter(failed_after=recent))).letters
    assert letter.job_id == old.id
    assert (await old.refresh()).completed_at == letter.failed_at


@pytest.mark.contract("P5.8")
async def test_a_mass_discard_takes_what_the_filter_takes_in(pgq: PgQueue, db: Connection) -> None:
    await bury(db, 2500, task="one")
    await bury(db, 3, task="two")

    assert await pgq.discard_many(DeadLetterFilter(task="one"), reason="spam", actor="ada") == 2500

    assert {letter.task for letter in (await pgq.dead_letters()).letters} == {"two"}
    noted = await db.fetch("select distinct action, reason, actor from pgqueue.action")
    assert [tuple(row) for row in noted] == [("discarded", "spam", "ada")]
    assert await pgq.discard_many(all=True) == 3
    assert await pgq.discard_many(all=True) == 0


# Elsewhere


@pytest.mark.contract("P5.1", "P5.5", "P5.6", "P5.8")
async def test_all_of_it_works_in_another_schema(empty_dsn: str) -> None:
    pgq = PgQueue(empty_dsn, schema="other_jobs")
    await pgq.migrate()
    async with pgq:
        webhook = Webhook(pgq)
        one, two, three, four = await webhook.fail("1.example", "2.example", "3.example", "4.example")
        [group] = await pgq.dead_groups()
        details = await pgq.dead_letter(one.id)

        webhook.is_broken = False
        await pgq.redrive(one.id, queue="repairs")
        await pgq.discard(two.id)
        async with pgq.worker(queues=["default", "repairs"]):
            redrive = await pgq.redrive_many(DeadLetterFilter(fingerprint=group.fingerprint))
            over = await redrive.wait(timeout=60)
            for job in (one, three, four):
                assert await job.result(timeout=60) == "sent"

        assert (group.count, details.payload) == (4, '{"url":"1.example","kind":"error"}')
        assert over.done == 2
        assert (await pgq.dead_letters()).letters == []


@pytest.mark.contract("P5.1", "P4.16")
async def test_what_a_worker_of_the_version_before_lets_fail_is_one_too(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work")
    async with ghost(pgq) as older:
        await older.claim()
        await older.connection.execute(
            """
            with ended as (
                delete from pgqueue.running where job_id = $1 returning job_id, started_at, attempt
            ),
            history as (
                insert into pgqueue.attempt (job_id, attempt, started_at, worker, reason, error)
                select job_id, attempt, started_at, 'old', 'exception', '{"type": "E", "message": "m"}'
                from ended
            )
            update pgqueue.job
            set status = 'failed', completed_at = now(), attempt = 1, worker = 'old', reason = 'exception',
                error = '{"type": "E", "message": "m"}'
            where id = $1
            """,
            job.id,
        )

    [letter] = (await pgq.dead_letters()).letters
    assert (letter.job_id, letter.error_type, letter.worker, letter.version) == (job.id, "E", "old", None)


@pytest.mark.contract("P5.1")
async def test_what_had_failed_before_there_were_dead_letters_is_one(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    await PgQueue(empty_dsn).migrate()
    pgq = PgQueue(empty_dsn)
    async with pgq:
        [job] = await Webhook(pgq).fail("a.example")
    migration = next(each for each in load_migrations("pgqueue") if each.name == "dead_letters")
    backfill = migration.sql[migration.sql.index("insert into pgqueue.dead_letter\nselect") :]
    backfill = backfill[: backfill.index(";")]
    await connection.execute("truncate pgqueue.dead_letter")

    await connection.execute(backfill)

    async with pgq:
        assert [letter.job_id for letter in (await pgq.dead_letters()).letters] == [job.id]
    await connection.close()


# Operators


@pytest.mark.contract("P4.5")
async def test_a_cancellation_is_noted_with_who_and_why(pgq: PgQueue, db: Connection) -> None:
    one, two, three = [await pgq.enqueue_by_name("work") for _ in range(3)]

    await pgq.cancel(one.id, reason="changed my mind", actor="ada")
    await db.execute("select pgqueue.cancel($1)", two.id)
    async with ghost(pgq) as worker:
        await worker.claim()
        await pgq.cancel(three.id, reason="too slow", actor="bob")
    assert await pgq.cancel(one.id) is False

    user = await db.fetchval("select session_user::text")
    noted = [
        [(each.action, each.reason, each.actor) for each in await pgq.actions(job.id)]
        for job in (one, two, three)
    ]
    assert noted == [
        [("cancelled", "changed my mind", "ada")],
        [("cancelled", None, user)],
        [("cancel_requested", "too slow", "bob")],
    ]


@pytest.mark.contract("P4.5")
async def test_an_act_is_noted_in_the_transaction_that_does_it(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work")

    transaction = db.transaction()
    await transaction.start()
    await db.execute("select pgqueue.cancel($1)", job.id)
    inside = await count(db, "action")
    await transaction.rollback()

    assert (inside, await count(db, "action")) == (1, 0)
    assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("P4.5")
@pytest.mark.parametrize("delay", [None, 3600], ids=["pending", "scheduled"])
async def test_a_job_that_waits_gets_another_priority(
    pgq: PgQueue, db: Connection, delay: float | None
) -> None:
    order: list[int] = []

    @pgq.task
    async def work(number: int) -> None:
        order.append(number)

    first = await work.enqueue(1)
    second = await work.options(delay=delay).enqueue(2)

    await pgq.reprioritise(second.id, 9, actor="ada")
    read = await second.refresh()
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.scheduled set scheduled_at = now()")
    await eventually_ready(pgq, db, 2)
    async with pgq.worker(concurrency=1):
        await first.result(timeout=60)
        await second.result(timeout=60)

    assert read.priority == 9
    assert order == [2, 1]
    [action] = await pgq.actions(second.id)
    assert (action.action, action.reason, action.actor) == ("reprioritised", "from 0 to 9", "ada")


async def eventually_ready(pgq: PgQueue, db: Connection, number: int) -> None:
    async def is_ready() -> bool:
        async with inside.database(pgq).acquire() as connection:
            await inside.store(pgq).promote(connection, 10)
        return await count(db, "ready") == number

    await eventually(is_ready)


# Bad input


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"task": ""}, "task must be a non-empty string, got ''"),
        ({"queue": 7}, "queue must be a non-empty string, got 7"),
        ({"reason": "a\0"}, "reason contains a NUL character"),
        ({"failed_after": datetime(2026, 1, 1)}, "failed_after must be a time zone-aware datetime"),  # noqa: DTZ001
        ({"failed_before": "today"}, "failed_before must be a time zone-aware datetime, got 'today'"),
        (
            {
                "failed_after": datetime(2026, 1, 2, tzinfo=UTC),
                "failed_before": datetime(2026, 1, 1, tzinfo=UTC),
            },
            "failed_after must be earlier than failed_before",
        ),
    ],
)
def test_a_filter_that_nothing_can_fit_is_refused(wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidFilterError, match=said):
        DeadLetterFilter(**wanted)


async def test_a_page_or_a_priority_that_cannot_be_is_refused(pgq: PgQueue) -> None:
    for limit in (0, -1, 1001):
        with pytest.raises(
            InvalidFilterError, match=f"limit must be a whole number from 1 to 1000, got {limit}"
        ):
            await pgq.dead_letters(limit=limit)
        with pytest.raises(InvalidFilterError, match=f"limit must be .* got {limit}"):
            await pgq.dead_groups(limit=limit)
    with pytest.raises(InvalidFilterError, match=r"cap must be .* got 0"):
        await pgq.dead_groups(cap=0)
    with pytest.raises(InvalidFilterError, match="invalid cursor 'x'"):
        await pgq.dead_letters(cursor="x")
    with pytest.raises(JobNotFoundError):
        await pgq.reprioritise(uuid4(), 1)
    with pytest.raises(InvalidOptionError, match="priority"):
        await pgq.reprioritise(uuid4(), 40_000)


@pytest.mark.contract("P5.6", "P5.8")
async def test_a_filter_that_takes_in_everything_must_be_meant(pgq: PgQueue, db: Connection) -> None:
    await bury(db, 1)

    for call in (pgq.discard_many, pgq.redrive_many):
        with pytest.raises(InvalidFilterError, match="matches every dead letter; pass all=True"):
            await call()
        with pytest.raises(InvalidFilterError, match="cannot be combined with a filter"):
            await call(DeadLetterFilter(task="old"), all=True)
    assert await count(db, "dead_letter") == 1
