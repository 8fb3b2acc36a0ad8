"""What an application puts around enqueueing, claiming, running and finishing."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import pytest
from kit.waiting import eventually, is_over

from pgqueue import (
    ConfigurationError,
    JobContext,
    JobFailed,
    JobHandle,
    JobStatus,
    Middleware,
    PgQueue,
    Reject,
    Signature,
    WorkerLifespanError,
    WorkflowHandle,
    group,
)
from pgqueue.events import Ended, JobInfo, Outcome, Retried

DSN = "postgresql://nowhere/none"
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class Noting(Middleware):
    """Notes what it is around, and leaves all as it is."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def enqueue(self, calls: Iterable[Signature[Any]], proceed: Any) -> list[JobHandle[Any]]:
        self.log.append(f"{self.name} enqueues")
        handles: list[JobHandle[Any]] = await proceed(calls)
        self.log.append(f"{self.name} enqueued {len(handles)}")
        return handles

    async def run(self, ctx: JobContext, proceed: Any) -> Any:
        self.log.append(f"{self.name} runs {ctx.task}")
        try:
            return await proceed()
        finally:
            self.log.append(f"{self.name} ran")

    async def finish(self, job: JobInfo, outcome: Outcome) -> Outcome:
        self.log.append(f"{self.name} finishes {job.task}: {type(outcome).__name__}")
        return outcome

    async def boot(self, worker: str) -> None:
        self.log.append(f"{self.name} boots {worker}")

    async def shutdown(self, worker: str) -> None:
        self.log.append(f"{self.name} shuts {worker} down")


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize("is_async", [True, False])
async def test_middleware_is_around_each_part_of_a_job_and_the_first_one_is_outermost(
    pgq: PgQueue, *, is_async: bool
) -> None:
    log: list[str] = []

    if is_async:

        @pgq.task(name="work")
        async def work() -> int:
            log.append("handler")
            return 1

    pgq.middleware(Noting("outer", log))
    pgq.middleware(Noting("inner", log))

    if not is_async:

        @pgq.task(name="work")
        def work_in_thread() -> int:
            log.append("handler")
            return 1

    job = await pgq.enqueue_by_name("work")
    async with pgq.worker(name="w"):
        assert await job.result(timeout=60) == 1

    assert log == [
        "outer enqueues", "inner enqueues", "inner enqueued 1", "outer enqueued 1",
        "outer boots w", "inner boots w",
        "outer runs work", "inner runs work", "handler", "inner ran", "outer ran",
        "inner finishes work: Succeeded", "outer finishes work: Succeeded",
        "inner shuts w down", "outer shuts w down",
    ]  # fmt: skip


class Tenants(Middleware):
    """Carries a context variable from whoever enqueues to the handler."""

    async def enqueue(self, calls: Iterable[Signature[Any]], proceed: Any) -> list[JobHandle[Any]]:
        handles: list[JobHandle[Any]] = await proceed(
            call.with_headers({"tenant": TENANT.get()}) for call in calls
        )
        return handles

    async def workflow(self, proceed: Any) -> WorkflowHandle[Any]:
        handle: WorkflowHandle[Any] = await proceed({"tenant": TENANT.get(), "source": "workflow"})
        return handle

    async def run(self, ctx: JobContext, proceed: Any) -> Any:
        token = TENANT.set(ctx.headers["tenant"])
        try:
            return await proceed()
        finally:
            TENANT.reset(token)


@pytest.mark.contract("P8.3")
async def test_a_context_is_carried_from_each_door_of_enqueueing_to_the_handler(pgq: PgQueue) -> None:
    pgq.middleware(Tenants())

    @pgq.task(headers={"source": "tests"})
    async def work(ctx: JobContext) -> tuple[str, str | None]:
        return TENANT.get(), ctx.headers.get("source")

    @pgq.task
    async def plain(ctx: JobContext) -> tuple[str, str | None]:
        return TENANT.get(), ctx.headers.get("source")

    @pgq.task
    def work_in_thread() -> str:
        return TENANT.get()

    TENANT.set("ada")
    calls = (work.s() for _ in range(3))
    jobs = [
        await work.enqueue(),
        await work.options(depends_on=[(await work.enqueue()).id]).enqueue(),
        await work.options(headers={"source": "call"}).enqueue(),
        *await pgq.enqueue_many(calls),
    ]
    by_name = await pgq.enqueue_by_name("work_in_thread")
    async with pgq.worker():
        results = [await job.result(timeout=60) for job in jobs]
        assert await by_name.result(timeout=60) == "ada"
        # The headers of a job, or of its task, win over those of its workflow.
        mixed = await group(work.s(), plain.s()).enqueue()
        built = pgq.workflow("built")
        built.add("plain", plain.s())
        assert await mixed.result(timeout=60) == [("ada", "tests"), ("ada", "workflow")]
        assert await (await built.enqueue()).result(timeout=60) == ("ada", "workflow")

    assert Counter(results) == {("ada", "tests"): 5, ("ada", "call"): 1}


class Refusing(Middleware):
    """Refuses, skips and changes, by the name of the task."""

    async def enqueue(self, calls: Iterable[Signature[Any]], proceed: Any) -> list[JobHandle[Any]]:
        calls = list(calls)
        if any(call.task == "refused" for call in calls):
            raise PermissionError("not you")
        if any(call.task == "doubled" for call in calls):
            calls += calls
        handles: list[JobHandle[Any]] = await proceed(calls)
        return handles

    async def run(self, ctx: JobContext, proceed: Any) -> Any:
        if ctx.task == "skipped":
            return "skipped"
        if ctx.task == "rejected":
            raise Reject("not today")
        value = await proceed()
        if ctx.task == "broken":
            raise LookupError("middleware")
        return f"{value}, seen"

    async def finish(self, job: JobInfo, outcome: Outcome) -> Outcome:
        if job.task == "tried_again" and isinstance(outcome, Ended) and job.attempt == 1:
            return Retried(outcome.job_id, 0.0, "outage", outcome.error)
        if job.task == "unfinished":
            raise SystemExit(7)
        if job.task == "misjudged":
            return None  # type: ignore[return-value]  # the point
        return outcome


@pytest.mark.contract("P8.3")
async def test_middleware_refuses_skips_and_changes_and_its_errors_are_where_they_belong(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    pgq.middleware(Refusing())
    ran: Counter[str] = Counter()

    def declare(name: str) -> None:
        @pgq.task(name=name, max_retries=0)
        async def work() -> str:
            ran[name] += 1
            if name == "tried_again":
                raise OSError("away")
            return name

    names = ("refused", "doubled", "skipped", "rejected", "broken", "tried_again", "unfinished", "misjudged")
    for name in names:
        declare(name)

    with pytest.raises(PermissionError, match="not you"):
        await pgq.enqueue_by_name("refused")
    with pytest.raises(ConfigurationError, match="passed on 2 calls for one"):
        await pgq.enqueue_by_name("doubled")
    jobs = {name: await pgq.enqueue_by_name(name) for name in names[2:]}
    async with pgq.worker():
        for job in jobs.values():
            await eventually(lambda job=job: is_over(pgq, job.id))  # type: ignore[misc]

    ended = {name: await job.refresh() for name, job in jobs.items()}
    assert {
        name: (job.status, job.result if job.has_result else job.reason) for name, job in ended.items()
    } == {
        "skipped": (JobStatus.SUCCEEDED, "skipped"),
        "rejected": (JobStatus.FAILED, "rejected"),
        "broken": (JobStatus.FAILED, "exception"),
        "tried_again": (JobStatus.FAILED, "exception"),
        "unfinished": (JobStatus.SUCCEEDED, "unfinished, seen"),
        "misjudged": (JobStatus.SUCCEEDED, "misjudged, seen"),
    }
    assert ran == {"broken": 1, "tried_again": 2, "unfinished": 1, "misjudged": 1}
    assert "raised an error in finish; ignoring it" in caplog.text
    assert "returned None from finish, which is no outcome of this job" in caplog.text


class Gate(Middleware):
    """Lets a worker claim, or not."""

    def __init__(self) -> None:
        self.most: int | None = 0
        self.asked = asyncio.Event()
        self.error: BaseException | None = None

    async def claim(self, free: int, proceed: Any) -> None:
        self.asked.set()
        if self.error is not None:
            raise self.error
        if self.most != 0:
            await proceed(self.most)


@pytest.mark.contract("P8.3")
async def test_middleware_lets_a_worker_claim_fewer_or_none(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    pgq.middleware(gate)
    running, most, go_on = 0, 0, asyncio.Event()

    @pgq.task
    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1

    jobs = await pgq.enqueue_many(work.s() for _ in range(6))
    async with pgq.worker(concurrency=6, poll_interval=0.02):
        for _ in range(3):
            gate.asked.clear()
            await gate.asked.wait()
        assert most == 0
        gate.error = SystemExit(3)
        await eventually(lambda: _is(lambda: running == 6))
        go_on.set()
        for job in jobs:
            await job.result(timeout=60)
        gate.error, gate.most = None, None
        await (await work.enqueue()).result(timeout=60)

    assert "middleware raised an error in claim; ignoring it" in caplog.text


async def _is(condition: Any) -> bool:
    return bool(condition())


class Unbootable(Middleware):
    """Does not boot."""

    async def boot(self, worker: str) -> None:
        raise OSError(f"no room for {worker}")


@pytest.mark.contract("P8.3")
async def test_middleware_that_does_not_boot_stops_the_start_and_the_ones_before_it_are_shut_down(
    pgq: PgQueue,
) -> None:
    log: list[str] = []
    pgq.middleware(Noting("first", log))
    pgq.middleware(Unbootable())

    with pytest.raises(WorkerLifespanError, match="no room for w"):
        async with pgq.worker(name="w"):
            raise AssertionError("unreachable")

    assert log == ["first boots w", "first shuts w down"]


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize("given", [7, Middleware, Middleware()])
def test_what_is_no_middleware_or_wraps_nothing_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="middleware"):
        PgQueue(DSN).middleware(given)


@pytest.mark.contract("P8.3")
async def test_without_middleware_a_job_pays_for_none(pgq: PgQueue) -> None:
    """A profiler sees no call of what runs around jobs: neither in the worker nor where they are enqueued."""

    @pgq.task
    async def work() -> None: ...

    seen: Counter[str] = Counter()

    def watch(frame: Any, event: str, _arg: object) -> None:
        if event == "call":
            seen[f"{frame.f_code.co_filename}:{frame.f_code.co_name}"] += 1

    async with pgq.worker():
        await (await work.enqueue()).result(timeout=60)
        sys.setprofile(watch)
        try:
            jobs = await pgq.enqueue_many(work.s() for _ in range(50))
            jobs += [await work.enqueue() for _ in range(3)]
            for job in jobs:
                await job.result(timeout=60)
        finally:
            sys.setprofile(None)

    rooms = ("tasks/middleware.py", "tasks/dependencies.py", "services/lifespan.py", "attempt/finishing.py")
    assert [call for call in seen if any(room in call for room in rooms)] == []
    assert not any("_call_wrapped" in call or "_fill_inside" in call for call in seen)
    # It would have seen them: the calls of the executor are there.
    assert any(call.endswith("executor.py:run") for call in seen)


@pytest.mark.contract("P8.3")
async def test_an_error_that_a_handler_raises_passes_through_middleware(pgq: PgQueue) -> None:
    log: list[str] = []
    pgq.middleware(Noting("m", log))

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("mine")

    async with pgq.worker():
        with pytest.raises(JobFailed, match="mine"):
            await (await fail.enqueue()).result(timeout=60)

    assert [entry for entry in log if entry.startswith("m finishes")] == ["m finishes fail: Ended"]
