"""Awaiting a result: the value, or what went wrong, for any number of waiters over one listener."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import (
    JobCancelled,
    JobExpired,
    JobFailed,
    JobHandle,
    JobStatus,
    PgQueue,
    PgQueueError,
    ResultTimeoutError,
    Task,
)
from pgqueue.background import notifications

if TYPE_CHECKING:
    from conftest import Connection

# The latest statement of a connection that listens is that, or a notification of its own.
LISTENERS = """
    select count(*) from pg_stat_activity
    where datname = current_database()
      and pid <> pg_backend_pid()
      and (query ilike 'listen %' or query like '%pg_notify%')
"""
CONNECTIONS = "select count(*) from pg_stat_activity where datname = current_database()"


def declare_echo(pgq: PgQueue) -> Task[[Any], Any]:
    @pgq.task
    async def echo(value: Any) -> Any:
        return value

    task: Task[[Any], Any] = echo
    return task


# What awaiting gives


@pytest.mark.contract("P1.9", "P4.14")
@pytest.mark.parametrize("value", [7, "text", None, [1, {"a": None}], False, 1.5, ""])
async def test_awaiting_a_result_gives_what_the_handler_returned(pgq: PgQueue, value: Any) -> None:
    echo = declare_echo(pgq)

    async with pgq.worker():
        job = await echo.enqueue(value)

        assert await job.result(timeout=60) == value
        assert await job.result(timeout=60) == value


@pytest.mark.contract("P1.9")
async def test_a_failed_job_raises_what_the_handler_raised_as_text(pgq: PgQueue) -> None:
    class PaymentRefusedError(Exception):
        pass

    @pgq.task(max_retries=0)
    async def pay() -> None:
        raise PaymentRefusedError("no funds")

    async with pgq.worker():
        job = await pay.enqueue()

        with pytest.raises(JobFailed, match="no funds") as raised:
            await job.result(timeout=60)

    assert (raised.value.job_id, raised.value.task, raised.value.reason) == (job.id, "pay", "exception")
    assert raised.value.error_type.endswith("PaymentRefusedError")
    assert raised.value.error_message == "no funds"


@pytest.mark.contract("P1.9")
async def test_a_job_that_will_not_run_raises_how_it_ended(pgq: PgQueue) -> None:
    echo = declare_echo(pgq)
    cancelled = await echo.options(delay=60).enqueue(1)
    waiting = asyncio.create_task(cancelled.result(timeout=60))
    expired = await echo.options(expires=1e-6).enqueue(1)

    await cancelled.cancel(reason="changed my mind")
    async with pgq.worker():
        with pytest.raises(JobExpired, match=str(expired.id)):
            await expired.result(timeout=60)
        with pytest.raises(JobCancelled, match="changed my mind"):
            await waiting


@pytest.mark.contract("P1.9")
async def test_a_timeout_leaves_the_job_alone(pgq: PgQueue) -> None:
    echo = declare_echo(pgq)
    job = await echo.enqueue(5)

    with pytest.raises(ResultTimeoutError, match=rf"job {job.id} did not finish within 0\.01 s") as raised:
        await job.result(timeout=0.01)

    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value, PgQueueError)
    assert await job.status() is JobStatus.PENDING
    async with pgq.worker():
        assert await job.result(timeout=60) == 5


@pytest.mark.contract("P1.9")
async def test_a_waiter_that_is_cancelled_leaves_job_and_other_waiters_alone(pgq: PgQueue) -> None:
    echo = declare_echo(pgq)
    job = await echo.enqueue(5)
    leaving, staying = (asyncio.create_task(job.result(timeout=60)) for _ in range(2))
    await asyncio.sleep(0)

    leaving.cancel()
    async with pgq.worker():
        assert await staying == 5

    assert leaving.cancelled()
    assert not inside.watches(pgq).is_watching


# Who listens


@pytest.mark.contract("P1.9")
async def test_two_hundred_waiters_share_one_listener(
    pgq: PgQueue, dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A probe would be the latest statement of its connection.
    monkeypatch.setattr(notifications, "PROBE_INTERVAL", 3600.0)
    echo = declare_echo(pgq)
    handles = [await echo.enqueue(0), *await pgq.enqueue_many([echo.s(number) for number in range(1, 100)])]
    waiters = [asyncio.create_task(handle.result(timeout=60)) for handle in handles * 2]

    async def is_listening() -> bool:
        return bool(await db.fetchval(LISTENERS))

    await eventually(is_listening)
    assert await db.fetchval(LISTENERS) == 1
    # That one, the pool's and ours: no waiter has a connection of its own.
    assert await db.fetchval(CONNECTIONS) <= 4
    async with PgQueue(dsn) as elsewhere:
        declare_echo(elsewhere)
        async with elsewhere.worker(concurrency=20):
            assert await asyncio.gather(*waiters) == [*range(100)] * 2
            assert await db.fetchval(LISTENERS) <= 2


@pytest.mark.contract("P1.9")
async def test_a_result_of_another_process_is_announced(pgq: PgQueue, dsn: str) -> None:
    echo = declare_echo(pgq)

    async with PgQueue(dsn) as elsewhere:
        declare_echo(elsewhere)
        async with elsewhere.worker():
            job = await echo.enqueue("x")

            assert await job.result(timeout=60) == "x"


@pytest.mark.contract("P1.9")
async def test_results_arrive_by_polling_when_nothing_is_announced(
    pgq: PgQueue, dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = declare_echo(pgq)
    job = await echo.enqueue("x")

    async with PgQueue(dsn) as silent:
        declare_echo(silent)
        # The other process finishes the job and says nothing to anybody.
        monkeypatch.setattr(inside.signals(silent), "publish_finished", lambda ids: None)
        waiting = asyncio.create_task(job.result(timeout=60))
        async with silent.worker():
            assert await waiting == "x"


@pytest.mark.contract("P1.9", "BP13")
async def test_a_waiter_survives_the_loss_of_its_listener(pgq: PgQueue, dsn: str, db: Connection) -> None:
    echo = declare_echo(pgq)
    job = await echo.enqueue("x")
    waiting = asyncio.create_task(job.result(timeout=60))

    async def is_listening() -> bool:
        return bool(await db.fetchval(LISTENERS))

    await eventually(is_listening)
    # Every connection of the waiting process dies, and meanwhile the job ends elsewhere.
    await db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    async with PgQueue(dsn) as elsewhere:
        declare_echo(elsewhere)
        async with elsewhere.worker():
            assert await waiting == "x"


# What is kept


@pytest.mark.contract("P4.14")
async def test_a_result_is_stored_as_json(pgq: PgQueue, db: Connection) -> None:
    echo = declare_echo(pgq)

    async with pgq.worker():
        job = await echo.enqueue({"a": [1, None]})
        await job.result(timeout=60)

    stored = await db.fetchval("select result::text from pgqueue.job where id = $1", job.id)
    assert json.loads(stored) == {"a": [1, None]}


@pytest.mark.contract("P4.14")
async def test_a_result_of_none_is_not_the_lack_of_a_result(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def nothing() -> None: ...

    async with pgq.worker():
        kept: JobHandle[Any] = await nothing.enqueue()
        ignored: JobHandle[Any] = await nothing.options(ignore_result=True).enqueue()
        assert [await job.result(timeout=60) for job in (kept, ignored)] == [None, None]

    assert (await kept.refresh()).has_result
    assert not (await ignored.refresh()).has_result
    stored = await db.fetch("select result::text from pgqueue.job order by id")
    assert [row[0] for row in stored] == ["null", None]


@pytest.mark.contract("P4.14")
async def test_an_ignored_result_is_not_kept_however_odd_it_is(pgq: PgQueue) -> None:
    @pgq.task(ignore_result=True)
    async def work() -> Any:
        return object()

    async with pgq.worker():
        job = await work.enqueue()

        assert await job.result(timeout=60) is None
    assert await job.status() is JobStatus.SUCCEEDED


def odd_results() -> dict[str, tuple[Any, str]]:
    return {
        "an object": (object(), "cannot be stored as JSON"),
        "a function": (len, "cannot be stored as JSON"),
        "NUL": ("a\0b", "contains a NUL character"),
        "half a character": ("\ud800", "cannot be stored as JSON"),
        "too long": ("a" * 2000, r"is 2,002 bytes as JSON; the limit is 1,000"),
    }


@pytest.mark.contract("P4.14")
@pytest.mark.parametrize("which", list(odd_results()))
async def test_a_result_that_cannot_be_stored_fails_the_job_and_says_why(dsn: str, which: str) -> None:
    value, said = odd_results()[which]
    executions = 0

    async with PgQueue(dsn, payload_limit=1000) as pgq:

        @pgq.task
        async def work() -> Any:
            nonlocal executions
            executions += 1
            return value

        fine = declare_echo(pgq)
        async with pgq.worker():
            job, neighbour = await pgq.enqueue_many([work.s(), fine.s(1)])

            with pytest.raises(JobFailed, match=said) as raised:
                await job.result(timeout=60)
            assert await neighbour.result(timeout=60) == 1
        assert (raised.value.reason, raised.value.error_type) == ("unstorable_result", "UnstorableResult")
        # Running it again would return the same: it is not retried.
        assert executions == 1
        assert (await job.refresh()).has_result is False


@pytest.mark.contract("P4.14")
async def test_a_result_that_does_not_fit_its_annotation_fails_the_job(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> int:
        return "many"  # type: ignore[return-value]  # the point

    async with pgq.worker():
        job = await work.enqueue()

        with pytest.raises(JobFailed, match="does not match the task's annotation"):
            await job.result(timeout=60)


# What a codec hides


class Scrambling:
    """A codec that leaves nothing readable. (It stands for one that encrypts.)"""

    def encode(self, document: str) -> str:
        return json.dumps(base64.b85encode(document[::-1].encode()).decode())

    def decode(self, stored: str) -> str:
        return base64.b85decode(json.loads(stored)).decode()[::-1]


@pytest.mark.contract("P4.14")
async def test_a_codec_leaves_no_plain_text_in_the_database(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, codec=Scrambling()) as pgq:

        @pgq.task
        async def work(secret: str) -> str:
            return f"{secret} returned"

        async with pgq.worker():
            job = await work.enqueue("swordfish")
            by_name = await pgq.enqueue_by_name("work", secret="swordfish")

            assert await job.result(timeout=60) == "swordfish returned"
            assert await by_name.result(timeout=60) == "swordfish returned"
        assert (await job.refresh()).arguments == {"secret": "swordfish"}
        assert (await job.refresh()).result == "swordfish returned"

    rows = [str(row[0]) for row in await db.fetch("select job::text from pgqueue.job")]
    assert len(rows) == 2
    assert not any("swordfish" in row or "returned" in row for row in rows)


@pytest.mark.contract("P4.14")
async def test_a_codec_that_cannot_read_fails_the_job_and_not_the_worker(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, codec=Scrambling(), unknown_task_grace=0.001) as pgq:
        echo = declare_echo(pgq)
        async with pgq.worker():
            plain = await db.fetchval("""select pgqueue.enqueue('echo', '{"value": 1}')""")
            job = await echo.enqueue(2)

            assert await job.result(timeout=60) == 2

            async def has_failed() -> bool:
                status: str = await db.fetchval("select pgqueue.status_of($1)::text", plain)
                return status == "failed"

            await eventually(has_failed)
    assert await db.fetchval("select reason from pgqueue.job where id = $1", plain) == "undecodable"


@pytest.mark.contract("P4.14", "P1.9")
async def test_a_job_that_a_codec_cannot_read_does_not_stop_other_waiters(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, codec=Scrambling(), unknown_task_grace=0.001) as pgq:
        echo = declare_echo(pgq)
        async with pgq.worker():
            plain = await db.fetchval("""select pgqueue.enqueue('echo', '{"value": 1}')""")
            reading = asyncio.create_task(pgq.handle(plain).result(timeout=60))
            with pytest.raises(JobFailed, match="undecodable"):
                await reading

            assert await (await echo.enqueue(2)).result(timeout=60) == 2
