"""A test mode that executes every job twice finds those that cannot bear it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.waiting import eventually, holds, is_terminal, over

from pgqueue import JobContext, JobStatus, PgQueue
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Outcome, Released, Retried, Succeeded
from pgqueue.testing import runs_twice
from pgqueue.worker.attempt.rerun import judge

if TYPE_CHECKING:
    from conftest import Connection

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.contract("BP3")
async def test_every_job_is_executed_twice_and_ends_once(pgq: PgQueue) -> None:
    seen: list[tuple[int, int, int]] = []

    @pgq.task
    async def work(ctx: JobContext, number: int) -> int:
        seen.append((number, ctx.attempt, ctx.losses))
        return number

    @pgq.task
    def in_a_thread() -> dict[str, int]:
        return {"a": 1, "b": 2}

    jobs = await pgq.enqueue_many([work.s(0), work.s(1)])
    thread = await in_a_thread.enqueue()
    with runs_twice(pgq):
        async with pgq.worker():
            assert [await job.result(timeout=60) for job in jobs] == [0, 1]
            assert await thread.result(timeout=60) == {"a": 1, "b": 2}

    # The second time looks like what follows the loss of a worker.
    assert sorted(seen) == [(0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1)]
    assert [await pgq.attempts(job.id) for job in jobs] == [[], []]


@pytest.mark.contract("BP3")
async def test_a_job_that_ends_differently_the_second_time_has_failed_and_says_how(pgq: PgQueue) -> None:
    calls: list[str] = []

    @pgq.task
    async def work(end: str) -> int:
        calls.append(end)
        if end == "raises" and calls.count(end) == 2:
            raise ValueError
        return calls.count(end)

    async with pgq.worker(run_twice=True):
        counted = await over(await work.enqueue("counts"))
        raised = await over(await work.enqueue("raises"))

    assert {(job.status, job.reason) for job in (counted, raised)} == {(JobStatus.FAILED, "not_idempotent")}
    assert counted.error is not None
    assert counted.error.type == "NotIdempotent"
    assert "first succeeded with 1, then succeeded with 2" in counted.error.message
    assert raised.error is not None
    assert "first succeeded with 1, then scheduled" in raised.error.message


@pytest.mark.contract("BP3", "P3.10", "P3.1")
async def test_the_second_time_finds_the_steps_of_the_first_and_not_its_transaction(
    pgq: PgQueue, db: Connection
) -> None:
    charged: list[str] = []
    await db.execute("create table effect (what text not null)")

    def charge() -> int:
        charged.append("once")
        return len(charged)

    @pgq.task
    async def pay(ctx: JobContext) -> int:
        receipt = await ctx.step("charge", charge)
        async with ctx.transaction() as connection:
            await connection.execute("insert into effect values ('paid')")
            count: int = await connection.fetchval("select count(*) from effect")
        return receipt + count

    job = await pay.enqueue()
    async with pgq.worker(run_twice=True):
        assert await job.result(timeout=60) == 2

    assert charged == ["once"]
    assert await db.fetchval("select count(*) from effect") == 1


@pytest.mark.contract("BP3")
async def test_a_transaction_of_a_job_that_is_not_idempotent_is_rolled_back(
    pgq: PgQueue, db: Connection
) -> None:
    calls: list[int] = []
    await db.execute("create table effect (what text not null)")

    @pgq.task
    async def work(ctx: JobContext) -> int:
        calls.append(1)
        async with ctx.transaction() as connection:
            await connection.execute("insert into effect values ('paid')")
        return len(calls)

    async with pgq.worker(run_twice=True):
        ended = await over(await work.enqueue())

    assert ended.reason == "not_idempotent"
    assert await db.fetchval("select count(*) from effect") == 0


@pytest.mark.contract("BP3")
async def test_a_job_that_fails_alike_both_times_fails_as_ever(pgq: PgQueue) -> None:
    calls: list[int] = []

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work() -> None:
        calls.append(1)
        raise LookupError

    async with pgq.worker(run_twice=True):
        ended = await over(await work.enqueue())

    assert (ended.reason, ended.attempt, len(calls)) == ("exception", 2, 4)


@pytest.mark.contract("BP3")
async def test_a_job_that_is_never_run_again_is_executed_once(pgq: PgQueue) -> None:
    calls: list[str] = []

    @pgq.task
    async def work(name: str) -> None:
        calls.append(name)

    early = await work.options(acks_late=False).enqueue("early")
    unloseable = await work.options(max_losses=0).enqueue("unloseable")
    async with pgq.worker(run_twice=True):
        await early.result(timeout=60)
        await unloseable.result(timeout=60)

    assert sorted(calls) == ["early", "unloseable"]


@pytest.mark.contract("BP3")
@pytest.mark.parametrize("execution", [1, 2])
@pytest.mark.parametrize("how", ["cancel", "release", "timeout"])
async def test_a_job_that_is_stopped_in_either_execution_ends_as_it_would(
    pgq: PgQueue, execution: int, how: str
) -> None:
    calls: list[int] = []
    entered = asyncio.Event()

    @pgq.task(max_retries=0, soft_timeout=None, timeout=3600)
    async def work() -> None:
        calls.append(1)
        if len(calls) >= execution:
            entered.set()
            await asyncio.sleep(3600)

    job = await work.enqueue()
    async with pgq.worker(run_twice=True) as worker:
        await entered.wait()
        if how == "cancel":
            await job.cancel()
        if how == "timeout":
            # What is too late the first time is executed again, and has its own time then.
            for count in range(execution, 3):
                await eventually(lambda count=count: holds(len(calls) == count))  # type: ignore[misc]
                inside.let_time_pass(worker, 3599.9)
        if how == "release":
            worker.release()
            await worker.wait_stopped()
        else:
            await eventually(lambda: is_terminal(job))

    ended = await job.refresh()
    expected = {
        # Stopped from outside, the second tells nothing.
        ("cancel", 1): (JobStatus.CANCELLED, "cancelled"),
        # It succeeded before: not the same.
        ("cancel", 2): (JobStatus.CANCELLED, "cancelled"),
        ("release", 1): (JobStatus.PENDING, None),
        ("release", 2): (JobStatus.PENDING, None),
        ("timeout", 1): (JobStatus.FAILED, "hard_timeout"),
        ("timeout", 2): (JobStatus.FAILED, "not_idempotent"),
    }
    assert (ended.status, ended.reason) == expected[how, execution]


async def test_the_mode_ends_with_its_block_and_is_off_by_default(pgq: PgQueue) -> None:
    calls: list[int] = []

    @pgq.task
    async def work() -> None:
        calls.append(1)

    with runs_twice(pgq):
        pass
    async with pgq.worker():
        await (await work.enqueue()).result(timeout=60)

    assert calls == [1]


@pytest.mark.contract("BP3")
@given(JSON, JSON)
def test_successes_are_alike_if_their_results_are(one: Any, other: Any) -> None:
    job_id = uuid4()
    first = Succeeded(job_id, json.dumps(one))
    second = Succeeded(job_id, json.dumps(other, ensure_ascii=False))

    judged = judge(first, second, None)

    assert (judged is second) == (json.loads(json.dumps(one)) == json.loads(json.dumps(other)))


@pytest.mark.contract("BP3")
def test_outcomes_are_alike_if_they_lead_to_the_same_status() -> None:
    job_id = uuid4()
    outcomes: list[Outcome] = [
        Succeeded(job_id, "1"),
        Retried(job_id, 1.0, "exception", JobError("ValueError", "")),
        Ended(job_id, JobStatus.FAILED, "exception", None),
        Ended(job_id, JobStatus.CANCELLED, "cancelled", None),
        Released(job_id),
    ]

    for number, first in enumerate(outcomes):
        for other, second in enumerate(outcomes):
            judged = judge(first, second, None)
            is_stopped = second in outcomes[-2:]
            assert (judged is second) == (number == other or is_stopped)
            assert judged is second or (isinstance(judged, Ended) and judged.reason == "not_idempotent")


@pytest.mark.contract("BP3")
def test_a_codec_that_gives_another_text_each_time_does_not_make_results_differ() -> None:
    class Salted:
        def encode(self, document: str) -> str:
            return document

        def decode(self, stored: str) -> str:
            return stored.partition(":")[2].rstrip('"')

    job_id = uuid4()
    second = Succeeded(job_id, '"salt2:1"')

    assert judge(Succeeded(job_id, '"salt1:1"'), second, Salted()) is second
    assert judge(Succeeded(job_id, '"salt1:2"'), second, Salted()) is not second
