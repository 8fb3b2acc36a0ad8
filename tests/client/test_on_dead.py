"""Who hears of a dead letter: hooks, observers and metrics, after it is committed and beside the jobs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest
from kit import inside
from kit.faults import expire_lease, ghost
from kit.waiting import eventually

from pgqueue import ConfigurationError, DeadLetter, JobFailed, JobStatus, PgQueue
from pgqueue.events import DeadLettersEntered, Event
from pgqueue.metrics import Metrics
from pgqueue.worker.outcome import dead_letter_hooks as deaths

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P5.9")


async def fail_one(pgq: PgQueue) -> DeadLetter:
    """Have one job fail in a worker that is stopped afterwards; return its dead letter."""
    job_id = await fail_job(pgq, "fail")
    [letter] = [each for each in (await pgq.dead_letters()).letters if each.job_id == job_id]
    return letter


async def fail_job(pgq: PgQueue, name: str) -> UUID:
    """Have one job fail in a worker that is stopped afterwards; return its id."""

    @pgq.task(max_retries=0, name=name)
    async def fail() -> None:
        raise ValueError("no")

    job = await fail.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await job.result(timeout=60)
    return job.id


async def test_a_hook_is_called_with_the_dead_letter_once_it_is_committed(
    pgq: PgQueue, db: Connection
) -> None:
    heard: list[tuple[DeadLetter, str]] = []

    @pgq.on_dead
    async def tell(letter: DeadLetter) -> None:
        status = await db.fetchval("select status::text from pgqueue.job where id = $1", letter.job_id)
        heard.append((letter, status))

    letter = await fail_one(pgq)

    assert heard == [(letter, "failed")]


async def test_a_plain_function_is_called_in_a_thread(pgq: PgQueue) -> None:
    heard: list[tuple[DeadLetter, bool]] = []

    @pgq.on_dead
    def tell(letter: DeadLetter) -> None:
        heard.append((letter, threading.current_thread() is threading.main_thread()))

    letter = await fail_one(pgq)

    assert heard == [(letter, False)]


async def test_a_hook_that_fails_is_logged_and_the_others_are_called(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[DeadLetter] = []

    @pgq.on_dead
    async def broken(letter: DeadLetter) -> None:
        raise RuntimeError("the pager is away")

    class Teller:
        async def __call__(self, letter: DeadLetter) -> None:
            heard.append(letter)

    pgq.on_dead(Teller())
    letter = await fail_one(pgq)

    assert heard == [letter]
    assert "the pager is away" in caplog.text
    assert str(letter.job_id) in caplog.text


@pytest.mark.contract("W8")
async def test_dead_letters_that_cannot_be_read_are_said_so_and_the_next_are_told_of(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[DeadLetter] = []
    pgq.on_dead(heard.append)
    whole = inside.break_statements(inside.store(pgq), "dead_letters")
    unread = await fail_job(pgq, "unread")
    inside.mend_statements(inside.store(pgq), whole)
    letter = await fail_one(pgq)

    assert heard == [letter]
    assert f"dead letter {unread} cannot be read (PostgresSyntaxError" in caplog.text


async def test_a_hook_that_hangs_delays_no_job_and_is_given_up(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deaths, "HOOK_LIMIT", 0.2)
    entered, heard = anyio.Event(), anyio.Event()

    @pgq.task(max_retries=0)
    async def work(fail: bool) -> str:
        if fail:
            raise ValueError
        return "done"

    @pgq.on_dead
    async def hang(letter: DeadLetter) -> None:
        entered.set()
        await anyio.sleep_forever()

    @pgq.on_dead
    async def tell(letter: DeadLetter) -> None:
        heard.set()

    await work.enqueue(True)
    async with pgq.worker(concurrency=1):
        with anyio.fail_after(60):
            await entered.wait()
            assert await (await work.enqueue(False)).result() == "done"
            await heard.wait()


async def test_a_job_that_a_rescuer_fails_is_told_of_too(pgq: PgQueue, db: Connection) -> None:
    heard: list[DeadLetter] = []

    @pgq.task(max_losses=0)
    async def work() -> None: ...

    @pgq.on_dead
    async def tell(letter: DeadLetter) -> None:
        heard.append(letter)

    job = await work.enqueue()
    async with ghost(pgq, max_losses={"work": 0}) as lost:
        await lost.claim()
        await expire_lease(db, lost.lease_id)
        async with pgq.worker():
            with pytest.raises(JobFailed):
                await job.result(timeout=60)

    assert [(letter.job_id, letter.reason) for letter in heard] == [(job.id, "worker_lost")]


async def test_what_succeeds_or_is_retried_is_not_told_of(pgq: PgQueue) -> None:
    heard: list[Event | DeadLetter] = []

    @pgq.task(max_retries=1, default_retry_delay=0.001)
    async def work() -> None:
        if not failures:
            failures.append(1)
            raise ValueError

    @pgq.on_dead
    async def tell(letter: DeadLetter) -> None:
        heard.append(letter)

    failures: list[int] = []
    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)

    assert await job.status() is JobStatus.SUCCEEDED
    assert heard == []


async def test_observers_and_the_counter_hear_of_it(pgq: PgQueue) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)
    metrics = Metrics(pgq)

    letter = await fail_one(pgq)
    text = (await metrics.render()).decode()

    assert [event.letters for event in heard if isinstance(event, DeadLettersEntered)] == [[letter]]
    labels = 'queue="default",reason="exception",task="fail"'
    assert f"pgqueue_dead_letters_total{{{labels}}} 1.0" in text


async def test_more_than_can_wait_are_let_go_and_said_so(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deaths, "MAX_WAITING", 1)
    monkeypatch.setattr(deaths, "BATCH", 1)
    entered, go_on = anyio.Event(), anyio.Event()
    heard: list[DeadLetter] = []

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError

    @pgq.on_dead
    async def tell(letter: DeadLetter) -> None:
        entered.set()
        heard.append(letter)
        await go_on.wait()

    first = await fail.enqueue()
    async with pgq.worker():
        with anyio.fail_after(60):
            await entered.wait()
        for job in await pgq.enqueue_many([fail.s() for _ in range(3)]):
            with pytest.raises(JobFailed):
                await job.result(timeout=60)
        go_on.set()

        async def are_told() -> bool:
            return len(heard) == 2

        await eventually(are_told)

    assert heard[0].job_id == first.id
    assert "skipping notifications" in caplog.text
    assert len((await pgq.dead_letters()).letters) == 4


def test_a_hook_must_be_a_function() -> None:
    with pytest.raises(ConfigurationError, match="on_dead: the hook must be a function, got 7"):
        PgQueue("postgresql://nowhere/").on_dead(7)  # type: ignore[type-var]  # what is tested
