"""Soft and hard time limits: which hold, what they do to a handler, and what follows."""

from __future__ import annotations

import asyncio
import contextlib
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.faults import attempt_reasons
from kit.waiting import eventually, holds, over
from prometheus_client import generate_latest

from pgqueue import InvalidOptionError, JobStatus, PgQueue, SoftTimeLimitExceeded, current_job
from pgqueue.events import AttemptsAbandoned, AttemptsEnded, AttemptsFenced, Event
from pgqueue.metrics import Metrics
from pgqueue.model.unset import UNSET
from pgqueue.options.levels import Options
from pgqueue.options.policy import Policy
from pgqueue.options.time_limits import DEFAULT_HARD, DEFAULT_SOFT, resolve_limits
from pgqueue.worker.attempt.soft_limit import ThreadCall

if TYPE_CHECKING:
    from conftest import Connection

DSN = "postgresql://nowhere/none"
SOON = 0.05
LONG = 3600

seconds = st.none() | st.floats(0.001, 1e6)


# Which limits hold


@pytest.mark.contract("P2.9")
@given(soft=seconds | st.just(UNSET), hard=seconds | st.just(UNSET))
def test_a_default_gives_way_to_what_was_set_and_the_soft_limit_comes_first(soft: Any, hard: Any) -> None:
    given = {"soft_timeout": soft, "timeout": hard}
    policy = Policy.of(Options(**{name: limit for name, limit in given.items() if limit is not UNSET}))

    if hard is not UNSET:
        assert policy.timeout == hard
    if soft is not UNSET and (hard is UNSET or hard is None or (soft is not None and soft < hard)):
        assert policy.soft_timeout == soft
    if soft is not UNSET and soft is not None and hard is UNSET:
        assert policy.timeout is not None
    if policy.soft_timeout is not None and policy.timeout is not None:
        assert policy.soft_timeout < policy.timeout
    assert policy.first_limit == min(
        (each for each in (policy.soft_timeout, policy.timeout) if each is not None), default=math.inf
    )


@pytest.mark.contract("P2.9", "BP5")
def test_limits_are_finite_where_nobody_sets_them() -> None:
    policy = Policy.of(Options())

    assert (policy.soft_timeout, policy.timeout) == (3000, 3600)
    assert (DEFAULT_SOFT, DEFAULT_HARD) == (3000, 3600)


@pytest.mark.contract("P2.9")
def test_limits_of_levels_that_do_not_fit_leave_a_worker_the_hard_one() -> None:
    assert resolve_limits(60, 30, sets_soft=True, sets_hard=True) == (None, 30)


@pytest.mark.contract("P2.9")
@pytest.mark.parametrize("soft", [30, 31, timedelta(minutes=1)])
def test_a_soft_limit_that_does_not_come_first_is_an_error_where_it_is_declared(soft: Any) -> None:
    with pytest.raises(
        InvalidOptionError, match=r"PgQueue: soft_timeout \(.* s\) must be less than timeout \(30 s\)"
    ):
        PgQueue(DSN, soft_timeout=soft, timeout=30)
    pgq = PgQueue(DSN)
    with pytest.raises(InvalidOptionError, match="queue 'q': soft_timeout"):
        pgq.queue("q", soft_timeout=soft, timeout=30)
    with pytest.raises(InvalidOptionError, match="task 'work'"):

        @pgq.task(soft_timeout=soft, timeout=30)
        async def work() -> None: ...

    @pgq.task
    async def fine() -> None: ...

    with pytest.raises(InvalidOptionError, match="soft_timeout"):
        fine.options(soft_timeout=soft, timeout=30)

    assert list(pgq.registry.names) == ["fine"]
    assert "q" not in pgq.registry.queues


@pytest.mark.contract("P2.9")
def test_limits_of_two_levels_that_do_not_fit_are_an_error_where_they_meet() -> None:
    pgq = PgQueue(DSN, soft_timeout=60)
    with pytest.raises(InvalidOptionError, match=r"task 'work' in queue 'default': soft_timeout \(60 s\)"):

        @pgq.task(timeout=30)
        async def work() -> None: ...

    @pgq.task(queue="slow")
    async def slow() -> None: ...

    with pytest.raises(InvalidOptionError, match="task 'slow' in queue 'slow'"):
        pgq.queue("slow", timeout=60)

    assert list(pgq.registry.names) == ["slow"]
    assert pgq.registry.policy(slow.definition, "slow").timeout == 3600


@pytest.mark.contract("P2.9")
async def test_limits_of_a_call_that_do_not_fit_its_task_are_an_error_and_write_nothing(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(soft_timeout=60)
    async def work() -> None: ...

    pgq.queue("short", timeout=10)
    with pytest.raises(InvalidOptionError, match="task 'work' in queue 'default'"):
        await work.options(timeout=30).enqueue()
    with pytest.raises(InvalidOptionError, match="task 'work' in queue 'short'"):
        await work.options(queue="short").enqueue()

    assert await db.fetchval("select count(*) from pgqueue.job") == 0


# The soft limit


async def nap() -> None:
    await asyncio.sleep(LONG)


async def nap_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(LONG))
        group.create_task(asyncio.sleep(LONG))


async def nap_in_a_scope() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        with anyio.move_on_after(LONG):
            await anyio.sleep(LONG)


async def nap_with_a_timeout() -> None:
    async with asyncio.timeout(LONG):
        await asyncio.wait_for(asyncio.sleep(LONG), LONG)


async def nap_in_a_thread_of_its_own() -> None:
    go_on = threading.Event()
    try:
        await anyio.to_thread.run_sync(go_on.wait, abandon_on_cancel=True)
    finally:
        go_on.set()


NAPS = [nap, nap_in_a_group, nap_in_a_scope, nap_with_a_timeout, nap_in_a_thread_of_its_own]


@pytest.mark.contract("P2.1")
@pytest.mark.parametrize("rest", NAPS)
async def test_the_soft_limit_is_raised_at_the_current_await_and_returning_after_it_is_success(
    pgq: PgQueue, rest: Callable[[], Any]
) -> None:
    @pgq.task(soft_timeout=SOON, timeout=LONG, max_retries=0)
    async def work() -> str:
        try:
            await rest()
        except SoftTimeLimitExceeded as error:
            runner = asyncio.current_task()
            assert runner is not None
            assert runner.cancelling() == 0
            # Not cancelled any more: it may await, in groups and under timeouts too.
            async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            with anyio.move_on_after(0.001) as scope:
                await anyio.sleep(LONG)
            assert scope.cancelled_caught
            return f"{current_job().job_id}: {error}"
        return "never told"

    job = await work.enqueue()
    async with pgq.worker():
        result = await job.result(timeout=60)

    assert result == f"{job.id}: job {job.id} (work) exceeded its soft time limit of 0.05 s"
    assert await pgq.attempts(job.id) == []
    assert len(asyncio.all_tasks()) < 20


@pytest.mark.contract("P2.2")
@pytest.mark.parametrize("rest", NAPS)
async def test_an_uncaught_soft_limit_is_a_failed_attempt_that_is_tried_again(
    pgq: PgQueue, rest: Callable[[], Any]
) -> None:
    task = pgq.task(name="work", soft_timeout=SOON, max_retries=1, default_retry_delay=0.001)(rest)

    job = await task.enqueue()
    async with pgq.worker() as worker:
        ended = await over(job)
        assert worker.running == 0

    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, "soft_timeout", 2)
    assert await attempt_reasons(pgq, job.id) == ["soft_timeout", "soft_timeout"]
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == (
        "SoftTimeLimitExceeded",
        "the handler exceeded its soft time limit of 0.05 s",
    )
    assert f"in {rest.__name__}" in (ended.error.traceback or "")


@pytest.mark.contract("P2.2", "P2.5")
@pytest.mark.parametrize("limit", ["soft_timeout", "timeout"])
async def test_retry_on_timeout_false_fails_at_once(pgq: PgQueue, limit: str) -> None:
    reason = {"soft_timeout": "soft_timeout", "timeout": "hard_timeout"}[limit]
    options: Any = {limit: SOON}
    task = pgq.task(name="work", retry_on_timeout=False, max_retries=5)(nap)

    job = await task.options(**options).enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, reason, 1)


@pytest.mark.contract("P2.3")
async def test_a_broad_except_does_not_swallow_the_soft_limit(pgq: PgQueue) -> None:
    went_on: list[str] = []

    @pgq.task(soft_timeout=SOON, max_retries=0)
    async def work() -> None:
        for _ in range(100):
            try:
                await asyncio.sleep(LONG)
            except Exception:
                went_on.append("swallowed")

    job = await work.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert ended.reason == "soft_timeout"
    assert went_on == []


@pytest.mark.contract("P2.1")
async def test_children_of_a_group_end_before_the_handler_goes_on(pgq: PgQueue) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0)
            ended.append("child")

    @pgq.task(soft_timeout=SOON)
    async def work() -> list[str]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
        except SoftTimeLimitExceeded:
            return list(ended)
        return ["never told"]

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == ["child"]


@pytest.mark.contract("P2.1")
async def test_what_a_handler_raises_of_itself_after_the_soft_limit_is_its_own(pgq: PgQueue) -> None:
    @pgq.task(soft_timeout=SOON, max_retries=0)
    async def work() -> None:
        try:
            await asyncio.sleep(LONG)
        except SoftTimeLimitExceeded:
            raise ValueError("half done") from None

    job = await work.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert ended.reason == "exception"
    assert ended.error is not None
    assert ended.error.message == "half done"


@pytest.mark.contract("P2.4")
async def test_the_hard_limit_comes_after_a_soft_one_that_was_caught(pgq: PgQueue) -> None:
    heard: list[str] = []

    @pgq.task(soft_timeout=SOON, timeout=LONG, max_retries=0)
    async def work() -> str:
        try:
            await asyncio.sleep(LONG)
        except SoftTimeLimitExceeded:
            heard.append("soft")
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError as error:
            heard.append(type(error).__name__)
        return "too late"

    job = await work.enqueue()
    async with pgq.worker() as worker:
        await eventually(lambda: holds(bool(heard)))
        inside.let_time_pass(worker, LONG - 0.1)
        ended = await over(job)

    assert heard == ["soft", "CancelledError"]
    assert (ended.status, ended.reason) == (JobStatus.FAILED, "hard_timeout")


@pytest.mark.contract("P2.1")
async def test_a_cancellation_by_others_stays_what_it_is(pgq: PgQueue) -> None:
    @pgq.task(soft_timeout=LONG, timeout=2 * LONG, max_retries=0)
    async def work() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(LONG)
        except TimeoutError:
            return "mine"
        return "never told"

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "mine"


# The hard limit


@pytest.mark.contract("P2.4", "P2.5")
async def test_the_hard_limit_cannot_be_caught_and_follows_the_retry_policy(pgq: PgQueue) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)

    @pgq.task(timeout=SOON, max_retries=1, default_retry_delay=0.001)
    async def work() -> str:
        try:
            await asyncio.sleep(LONG)
        except BaseException:
            return "caught"
        return "never told"

    job = await work.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, "hard_timeout", 2)
    assert await attempt_reasons(pgq, job.id) == ["hard_timeout", "hard_timeout"]
    # Observers hear of it as of an exception.
    ends = [each for event in heard if isinstance(event, AttemptsEnded) for each in event.attempts]
    assert [(each.status, each.reason) for each in ends] == [
        (JobStatus.SCHEDULED, "hard_timeout"),
        (JobStatus.FAILED, "hard_timeout"),
    ]


@pytest.mark.contract("P2.6", "P2.4")
async def test_a_handler_that_suppresses_its_cancellation_is_given_up_after_the_grace(pgq: PgQueue) -> None:
    go_on, late = asyncio.Event(), asyncio.Event()
    heard: list[Event] = []
    pgq.observe(heard.append)
    metrics = Metrics(pgq)

    @pgq.task(timeout=SOON, max_retries=0)
    async def refuse() -> str:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        late.set()
        return "too late"

    @pgq.task
    async def quick() -> str:
        return "done"

    job = await refuse.enqueue()
    async with pgq.worker(concurrency=1, cancel_grace=SOON) as worker:
        try:
            ended = await over(job)
            # Its slot is free while it goes on.
            assert await (await quick.enqueue()).result(timeout=60) == "done"
            assert not late.is_set()
        finally:
            go_on.set()
        await late.wait()
        await (await quick.enqueue()).result(timeout=60)
        after = await job.refresh()
        assert worker.running == 0

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "hard_timeout")
    assert after == ended
    assert [event.job_ids for event in heard if isinstance(event, AttemptsAbandoned)] == [[job.id]]
    assert "pgqueue_attempts_abandoned_total 1.0" in generate_latest(metrics.registry).decode()
    ends = [each.job_id for event in heard if isinstance(event, AttemptsEnded) for each in event.attempts]
    assert ends.count(job.id) == 1


@pytest.mark.contract("P2.6")
async def test_an_attempt_that_was_given_up_on_ends_once(pgq: PgQueue) -> None:
    go_on, late = asyncio.Event(), asyncio.Event()
    heard: list[Event] = []
    pgq.observe(heard.append, AttemptsAbandoned, AttemptsEnded, AttemptsFenced)

    @pgq.task(timeout=SOON, max_retries=0)
    async def refuse() -> None:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        late.set()

    job = await refuse.enqueue()
    # Leaving the worker writes every outcome that there is.
    async with pgq.worker(cancel_grace=SOON):
        try:
            await over(job)
        finally:
            go_on.set()
        await late.wait()

    assert [type(event) for event in heard] == [AttemptsAbandoned, AttemptsEnded]


@pytest.mark.contract("P2.6")
async def test_a_cancelled_job_that_does_not_stop_is_given_up_after_the_grace(pgq: PgQueue) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def refuse() -> None:
        started.set()
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()

    job = await refuse.enqueue()
    async with pgq.worker(cancel_grace=SOON) as worker:
        try:
            await started.wait()
            assert await job.cancel()
            ended = await over(job)
            assert worker.running == 0
        finally:
            go_on.set()

    assert (ended.status, ended.reason) == (JobStatus.CANCELLED, "cancelled")


@pytest.mark.contract("P2.9")
async def test_the_clock_starts_with_each_attempt(pgq: PgQueue, db: Connection) -> None:
    runs: list[float] = []

    @pgq.task(timeout=8, max_retries=3, default_retry_delay=0.001)
    async def work() -> str:
        runs.append(time.monotonic())
        # Together longer than the limit, each of them shorter.
        await asyncio.sleep(2.1)
        if len(runs) < 4:
            raise ValueError
        return "done"

    job = await work.enqueue()
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.ready set ready_at = now() - interval '1 day'")
    async with pgq.worker():
        assert await job.result(timeout=60) == "done"

    assert "hard_timeout" not in await attempt_reasons(pgq, job.id)


@pytest.mark.contract("P2.10")
async def test_a_call_sets_its_own_limits(pgq: PgQueue) -> None:
    task = pgq.task(name="work", max_retries=0)(nap)

    jobs = [
        await task.options(soft_timeout=SOON).enqueue(),
        await task.options(timeout=SOON).enqueue(),
        await task.options(timeout=SOON, soft_timeout=None).enqueue(),
    ]
    async with pgq.worker():
        ended = [await over(job) for job in jobs]

    assert [job.reason for job in ended] == ["soft_timeout", "hard_timeout", "hard_timeout"]


@pytest.mark.contract("P2.10")
async def test_a_worker_deployed_with_another_limit_applies_it_to_waiting_jobs(
    pgq: PgQueue, dsn: str
) -> None:
    task = pgq.task(name="work", timeout=LONG)(nap)
    job = await task.enqueue()

    async with PgQueue(dsn) as deployed:
        deployed.task(name="work", timeout=SOON, max_retries=0)(nap)
        async with deployed.worker():
            ended = await over(job)

    assert ended.reason == "hard_timeout"


@pytest.mark.contract("P2.9")
async def test_limits_further_away_than_a_scan_are_watched_too(pgq: PgQueue) -> None:
    @pgq.task(soft_timeout=100, timeout=200, max_retries=0)
    async def work() -> str:
        try:
            await asyncio.sleep(LONG)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(LONG)
        return "never told"

    job = await work.enqueue()
    async with pgq.worker() as worker:
        await eventually(lambda: holds(worker.running == 1))
        [attempt] = inside.slots_of(worker).attempts
        await eventually(lambda: holds(attempt.started > 0))
        assert attempt.timer is None
        # Time passes: the next scan finds the one limit, and then the other, near.
        attempt.started -= 99.9
        await eventually(lambda: holds(attempt.is_soft_sent))
        attempt.started -= 99.9
        ended = await over(job)

    assert ended.reason == "hard_timeout"


# Threads


@pytest.mark.contract("P2.8", "P2.1", "P2.3")
async def test_a_thread_is_interrupted_at_its_soft_limit_and_may_return(pgq: PgQueue) -> None:
    started = threading.Event()

    @pgq.task(soft_timeout=100, timeout=LONG, max_retries=0)
    def work() -> str:
        try:
            started.set()
            while True:
                with contextlib.suppress(Exception):
                    time.sleep(0.001)
        except SoftTimeLimitExceeded:
            return "cleaned up"

    job = await work.enqueue()
    async with pgq.worker() as worker:
        # A thread may be slow to come to its first line.
        await eventually(lambda: holds(started.is_set()))
        inside.let_time_pass(worker, 99.9)
        assert await job.result(timeout=60) == "cleaned up"


@pytest.mark.contract("P2.8", "P2.2")
async def test_an_uncaught_soft_limit_in_a_thread_is_a_failed_attempt(pgq: PgQueue) -> None:
    @pgq.task(soft_timeout=SOON, max_retries=0)
    def work() -> None:
        while True:
            time.sleep(0.001)

    job = await work.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "soft_timeout")


@pytest.mark.contract("P2.8")
def test_a_soft_limit_hits_the_handler_and_never_what_the_thread_runs_next() -> None:
    hits: list[str] = []

    def handler() -> str:
        try:
            call.interrupt()
            for _ in range(1000):
                pass
        except SoftTimeLimitExceeded:
            hits.append("inside")
        return "returned"

    call = ThreadCall(handler, (), {})
    late = ThreadCall(lambda: "quick", (), {})

    assert call() == ("returned", None)
    assert late() == ("quick", None)
    late.interrupt()
    call.interrupt()
    for _ in range(1000):
        pass
    assert hits == ["inside"]


TRACED = """
import random, sys, threading, time
from pgqueue.worker.attempt.soft_limit import ThreadCall

def handler():
    for _ in range(random.randrange(200)):
        pass

for _ in range(300):
    call = ThreadCall(handler, (), {})
    late = threading.Timer(random.random() / 10_000, call.interrupt)
    late.start()
    call()
    late.join()
sys.settrace(lambda *_: None)
handler()
print("traced")
"""


@pytest.mark.contract("P2.8")
def test_a_program_can_be_debugged_after_soft_limits_of_threads() -> None:
    # In a process of its own: Python 3.11 hung, and nothing in that process could have said so.
    done = subprocess.run(
        [sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=180, check=True
    )

    assert done.stdout == "traced\n"


@pytest.mark.contract("P2.8")
async def test_soft_limits_at_the_end_of_handlers_hurt_nobody(pgq: PgQueue) -> None:
    @pgq.task(soft_timeout=0.002, max_retries=0)
    def work() -> str:
        time.sleep(0.002)
        return "returned"

    jobs = await pgq.enqueue_many(work.s() for _ in range(200))
    async with pgq.worker(concurrency=4) as worker:
        ended = [await over(job) for job in jobs]
        assert worker.is_alive

    assert {(job.status, job.reason) for job in ended} <= {
        (JobStatus.SUCCEEDED, None),
        (JobStatus.FAILED, "soft_timeout"),
    }


@pytest.mark.contract("P2.8", "P2.4")
async def test_a_thread_is_abandoned_at_its_hard_limit_and_replaced(pgq: PgQueue) -> None:
    go_on = threading.Event()

    @pgq.task(timeout=SOON, max_retries=0)
    def stuck() -> str:
        go_on.wait(60)
        return "too late"

    @pgq.task
    def quick() -> str:
        return "done"

    jobs = await pgq.enqueue_many(stuck.s() for _ in range(3))
    try:
        async with pgq.worker(concurrency=1):
            ended = [await over(job) for job in jobs]
            neighbour = await (await quick.enqueue()).result(timeout=60)
    finally:
        go_on.set()

    assert {(job.status, job.reason) for job in ended} == {(JobStatus.FAILED, "hard_timeout")}
    assert neighbour == "done"
