"""Jobs that wait for a time or an event: they hold nothing meanwhile, and go on where they were."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from kit.faults import lossy_proxy
from kit.waiting import eventually
from pydantic import BaseModel

from pgqueue import (
    ContextError,
    InvalidStepError,
    JobContext,
    JobFailed,
    JobNotFoundError,
    JobStatus,
    PgQueue,
    WorkflowFailed,
    chain,
    chord,
    group,
)
from pgqueue.errors import InvalidEventError, InvalidOptionError, JobOverError

if TYPE_CHECKING:
    from conftest import Connection

    from pgqueue.tasks.handle import JobHandle

WITHIN = 60.0
LONG = timedelta(days=3)


class Approval(BaseModel):
    """What a human says."""

    by: str


async def blocked(job: JobHandle[Any]) -> None:
    """Wait until a job waits."""

    async def is_blocked() -> bool:
        return await job.status() is JobStatus.BLOCKED

    await eventually(is_blocked)


@pytest.mark.core
@pytest.mark.contract("P7.25")
async def test_a_job_that_sleeps_holds_no_slot_and_goes_on_where_it_was(pgq: PgQueue, db: Connection) -> None:
    runs: Counter[str] = Counter()

    async def charge() -> int:
        runs["charge"] += 1
        return 7

    @pgq.task(max_retries=0)
    async def onboard(ctx: JobContext) -> int:
        runs["onboard"] += 1
        paid = await ctx.step("charge", charge)
        await ctx.sleep("cooling off", LONG)
        assert ctx.attempt == 1
        return paid

    @pgq.task
    async def other() -> str:
        return "ran"

    async with pgq.worker(concurrency=1):
        job = await onboard.enqueue()
        await blocked(job)
        assert await (await other.enqueue()).result(timeout=WITHIN) == "ran"
        row = await db.fetchrow("select attempt, losses, wake_at - now() as left, waits from pgqueue.blocked")
        assert row is not None
        assert (row["attempt"], row["losses"], row["waits"]) == (0, 0, None)
        assert timedelta(days=2.9) < row["left"] <= LONG
        until = await db.fetchval("select result #>> '{}' from pgqueue.step where name = 'cooling off/until'")
        assert until is not None

        # Its time has come: by the time that was stored, and no other.
        await db.execute(
            "set pgqueue.writer to 'on';"
            "update pgqueue.step set result = to_json(now()) where name = 'cooling off/until';"
            "update pgqueue.blocked set wake_at = now()"
        )
        assert await job.result(timeout=WITHIN) == 7

    assert runs == {"charge": 1, "onboard": 2}
    assert await pgq.attempts(job.id) == []
    assert (await job.refresh()).attempt == 1


@pytest.mark.contract("P7.25")
async def test_a_job_that_goes_on_keeps_its_position(pgq: PgQueue, db: Connection) -> None:
    order: list[str] = []

    @pgq.task
    async def work(ctx: JobContext, name: str) -> None:
        if name == "first":
            await ctx.wait_for_event("go", int)
        order.append(name)

    first = await work.enqueue("first")
    async with pgq.worker(concurrency=1):
        await blocked(first)
    second = await work.enqueue("second")
    await pgq.signal(first.id, "go", 1)
    async with pgq.worker(concurrency=1):
        await second.result(timeout=WITHIN)
        await first.result(timeout=WITHIN)
    assert order == ["first", "second"]


@pytest.mark.core
@pytest.mark.contract("P7.25")
@pytest.mark.parametrize("when", ["before", "after", "in a transaction"])
async def test_an_event_reaches_its_job_whenever_it_comes(pgq: PgQueue, db: Connection, when: str) -> None:
    @pgq.task
    async def approve(ctx: JobContext) -> str:
        answer = await ctx.wait_for_event("approved", Approval, timeout=LONG)
        return "timed out" if answer is None else answer.by

    job = await approve.enqueue()
    value = Approval(by="ann")
    if when == "before":
        assert await pgq.signal(job.id, "approved", value)
    async with pgq.worker():
        if when == "after":
            await blocked(job)
            assert await pgq.signal(job.id, "approved", value)
        elif when == "in a transaction":
            await blocked(job)
            async with db.transaction():
                assert await pgq.signal(job.id, "approved", value, connection=db)
        assert await job.result(timeout=WITHIN) == "ann"
    assert await db.fetchval("select count(*) from pgqueue.event") == 0


@pytest.mark.core
@pytest.mark.contract("P7.25")
async def test_an_event_is_known_by_its_id_also_when_its_job_has_had_it(pgq: PgQueue) -> None:
    @pgq.task
    async def collect(ctx: JobContext) -> list[int | None]:
        return [
            await ctx.wait_for_event("pulse", int, timeout=0 if number == 3 else LONG, step=f"pulse {number}")
            for number in range(4)
        ]

    job = await collect.enqueue()
    assert await pgq.signal(job.id, "pulse", 1, dedup_id="a")
    assert not await pgq.signal(job.id, "pulse", 2, dedup_id="a")
    async with pgq.worker():
        await blocked(job)
        assert not await pgq.signal(job.id, "pulse", 3, dedup_id="a")
        assert await pgq.signal(job.id, "pulse", 4, dedup_id="b")
        assert await pgq.signal(job.id, "other", 9, dedup_id="a")
        assert await pgq.signal(job.id, "pulse", 4)
        assert await job.result(timeout=WITHIN) == [1, 4, 4, None]


@pytest.mark.contract("P7.25")
async def test_a_timeout_is_stored_and_a_later_event_does_not_change_it(pgq: PgQueue) -> None:
    answers: list[str | None] = []

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def approve(ctx: JobContext) -> str | None:
        answers.append(await ctx.wait_for_event("approved", str, timeout=0.01))
        if ctx.attempt == 1:
            await pgq.signal(ctx.job_id, "approved", "late")
            raise ConnectionResetError
        return answers[-1]

    async with pgq.worker():
        job = await approve.enqueue()
        assert await job.result(timeout=WITHIN) is None
    assert answers == [None, None]


@pytest.mark.contract("P7.25")
async def test_an_event_that_cannot_be_sent_is_refused_and_changes_nothing(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work() -> None: ...

    async with pgq.worker():
        over = await work.enqueue()
        await over.result(timeout=WITHIN)
    live, cancelled = await work.enqueue(), await work.enqueue()
    await cancelled.cancel()
    for connection in (None, db):
        on: Any = {"connection": connection, "autocommit": True}
        with pytest.raises(JobOverError, match="cancelled"):
            await pgq.signal(cancelled.id, "a", **on)
        with pytest.raises(JobNotFoundError):
            await pgq.signal(uuid4(), "a", **on)
        with pytest.raises(JobOverError, match="succeeded"):
            await pgq.signal(over.id, "a", **on)
        for name, dedup_id in (("", None), ("a" * 195, None), ("\0", None), ("a", ""), ("a", "a" * 256)):
            with pytest.raises(InvalidOptionError):
                await pgq.signal(live.id, name, dedup_id=dedup_id, connection=connection)
        for value in (object(), float("nan"), "\0", "x" * 10_000_000):
            with pytest.raises(InvalidEventError):
                await pgq.signal(live.id, "a", value, connection=connection)
    assert await db.fetchval("select count(*) from pgqueue.event") == 0


@pytest.mark.contract("P7.25")
async def test_a_wait_is_refused_where_it_cannot_end_the_handler(pgq: PgQueue) -> None:
    @pgq.task
    async def in_transaction(ctx: JobContext) -> None:
        async with ctx.transaction():
            await ctx.sleep("nap", 0)

    @pgq.task
    async def behind_transaction(ctx: JobContext) -> None:
        async with ctx.transaction():
            pass
        await ctx.wait_for_event("a", int)

    @pgq.task
    async def in_a_task(ctx: JobContext) -> None:
        await asyncio.create_task(ctx.sleep("nap", 60))

    @pgq.task
    def plain(ctx: JobContext) -> None:
        asyncio.run(ctx.sleep("nap", 60))

    @pgq.task
    async def twice(ctx: JobContext) -> None:
        await ctx.sleep("nap", 0)
        await ctx.sleep("nap", 0)

    @pgq.task
    async def long_name(ctx: JobContext) -> None:
        await ctx.sleep("n" * 195, 0)

    async with pgq.worker():
        for task, error in (
            (in_transaction, ContextError),
            (behind_transaction, ContextError),
            (in_a_task, ContextError),
            (plain, ContextError),
            (twice, InvalidStepError),
            (long_name, InvalidStepError),
        ):
            with pytest.raises(JobFailed) as caught:
                await (await task.options(max_retries=0).enqueue()).result(timeout=WITHIN)
            assert caught.value.error_type == error.__name__


@pytest.mark.contract("P7.25")
async def test_a_handler_that_catches_everything_waits_all_the_same(pgq: PgQueue) -> None:
    tries: list[str] = []

    @pgq.task(max_retries=0)
    async def stubborn(ctx: JobContext, way: str) -> str:
        try:
            await ctx.wait_for_event("go", int)
        except BaseException:
            with contextlib.suppress(BaseException):
                await ctx.step("more", tries.append, "ran")
            if way == "raises":
                raise RuntimeError("wrapped") from None
            return "swallowed"
        return "went on"

    async with pgq.worker():
        for way in ("returns", "raises"):
            job = await stubborn.enqueue(way)
            await blocked(job)
            await pgq.signal(job.id, "go", 1)
            assert await job.result(timeout=WITHIN) == "went on"
    assert tries == []


@pytest.mark.contract("P7.25")
async def test_a_job_that_waits_can_be_cancelled(pgq: PgQueue) -> None:
    @pgq.task
    async def wait(ctx: JobContext) -> None:
        await ctx.sleep("nap", LONG)

    async with pgq.worker():
        job = await wait.enqueue()
        await blocked(job)
        assert await job.cancel()
        assert await job.status() is JobStatus.CANCELLED


@pytest.mark.contract("P7.25")
@pytest.mark.parametrize("statement", ["settle_wait", "suspend", "record_step", "wake", "claim"])
@pytest.mark.parametrize("is_carried_out", [False, True])
async def test_a_connection_that_is_lost_anywhere_loses_no_wait_and_repeats_no_step(
    dsn: str, statement: str, is_carried_out: bool
) -> None:
    calls: Counter[str] = Counter()

    async def act(name: str) -> str:
        calls[name] += 1
        return name

    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:

        @queue.task(max_retries=0)
        async def onboard(ctx: JobContext) -> list[Any]:
            first = await ctx.step("first", act, "first")
            await ctx.sleep("nap", 0.05)
            answer = await ctx.wait_for_event("approved", str, timeout=LONG)
            return [first, answer, await ctx.step("last", act, "last")]

        job = await onboard.enqueue()
        proxy.lose_statement(statement, is_carried_out=is_carried_out)
        async with queue.worker(lease_ttl=3):
            await proxy.lost.wait()

            async def is_waiting() -> bool:
                async with PgQueue(dsn) as other:
                    found = await other.get(job.id)
                    return found.status is JobStatus.BLOCKED

            await eventually(is_waiting)
            async with PgQueue(dsn) as other:
                await other.signal(job.id, "approved", "yes")
            assert await job.result(timeout=WITHIN) == ["first", "yes", "last"]
    assert calls == {"first": 1, "last": 1}


class Parents:
    """Tasks that run others, and how often each ran."""

    def __init__(self, pgq: PgQueue) -> None:
        self.runs: Counter[str] = Counter()

        @pgq.task(max_retries=0)
        async def leaf(number: int) -> int:
            self.runs[f"leaf {number}"] += 1
            if number < 0:
                raise ValueError("no")
            return number

        @pgq.task
        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        @pgq.task(max_retries=0)
        async def parent(ctx: JobContext, numbers: list[int]) -> int:
            self.runs["parent"] += 1
            return await ctx.run("rest", chord([leaf.s(number) for number in numbers], total.s()))

        @pgq.task(max_retries=0)
        async def both(ctx: JobContext, depth: int) -> list[Any]:
            if depth == 0:
                return []
            one = await ctx.start("one", both.s(depth - 1))
            two = await ctx.start("two", group(leaf.s(1), leaf.s(2)))
            return list(await ctx.wait(one, two))

        @pgq.task(max_retries=1, default_retry_delay=0)
        async def careful(ctx: JobContext) -> str:
            try:
                await ctx.run("child", leaf.s(-1))
            except WorkflowFailed as error:
                if ctx.attempt == 1:
                    await pgq.redrive(error.job_id, arguments={"number": 5})
                    raise ConnectionResetError from None
                return f"{error.error_type} {error.failed == [error.job_id]}"
            return "succeeded"

        self.leaf, self.total, self.parent, self.both, self.careful = leaf, total, parent, both, careful


@pytest.mark.core
@pytest.mark.contract("P7.20", "P7.19")
async def test_children_run_on_a_worker_of_one_slot_and_what_waits_for_the_parent_waits_for_them(
    pgq: PgQueue, db: Connection
) -> None:
    tasks = Parents(pgq)
    async with pgq.worker(concurrency=1):
        jobs = [await chain(tasks.parent.s([1, 2, 3]), tasks.leaf.s()).enqueue() for _ in range(5)]
        assert [await job.result(timeout=WITHIN) for job in jobs] == [6] * 5
        deep = await tasks.both.enqueue(3)
        assert await deep.result(timeout=WITHIN) == [[[[], [1, 2]], [1, 2]], [1, 2]]
        empty = await tasks.parent.enqueue([])
        assert await empty.result(timeout=WITHIN) == 0
    # Each child was started once, by a parent that it names.
    assert tasks.runs["leaf 6"] == 5
    assert await db.fetchval("select count(distinct parent_job) from pgqueue.workflow") >= 6
    assert await db.fetchval("select count(*) from pgqueue.blocked") == 0


@pytest.mark.contract("P7.20")
async def test_the_error_of_a_child_is_raised_in_the_handler_and_stays_when_the_child_is_redriven(
    pgq: PgQueue,
) -> None:
    tasks = Parents(pgq)
    children: list[UUID] = []
    async with pgq.worker(concurrency=1):
        job = await tasks.careful.enqueue()
        assert await job.result(timeout=WITHIN) == "ValueError True"
        # What each attempt would get again uses up no retries, unless its class is named.
        for retried, attempts in (((Exception,), 1), ((WorkflowFailed,), 2)):

            @pgq.task(name=f"to {attempts}", max_retries=1, default_retry_delay=0, autoretry_for=retried)
            async def passes_on(ctx: JobContext) -> int:
                try:
                    return await ctx.run("child", tasks.leaf.s(-1))
                except WorkflowFailed as error:
                    children.append(error.job_id)
                    raise

            failing = await passes_on.enqueue()
            with pytest.raises(JobFailed, match="ValueError"):
                await failing.result(timeout=WITHIN)
            assert (await failing.refresh()).attempt == attempts
        await pgq.redrive(children[-1], arguments={"number": 5})
        await pgq.restart_from(failing.id, "child/ended")
        assert await failing.result(timeout=WITHIN) == 5


@pytest.mark.contract("P7.20")
@pytest.mark.parametrize("statement", ["record_step", "submit_workflow", "suspend", "attend", "finish"])
@pytest.mark.parametrize("is_carried_out", [False, True])
async def test_a_connection_that_is_lost_anywhere_starts_no_child_twice_and_loses_no_parent(
    dsn: str, db: Connection, statement: str, is_carried_out: bool
) -> None:
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:
        tasks = Parents(queue)
        job = await tasks.parent.enqueue([1, 2])
        proxy.lose_statement(statement, is_carried_out=is_carried_out)
        async with queue.worker(lease_ttl=3):
            await proxy.lost.wait()
            assert await job.result(timeout=WITHIN) == 3
    assert await db.fetchval("select count(*) from pgqueue.workflow") == 1


@pytest.mark.core
@pytest.mark.contract("P7.25")
async def test_a_job_that_begins_anew_forgets_its_steps_and_keeps_its_events(
    pgq: PgQueue, db: Connection
) -> None:
    pages: list[tuple[int, int, int]] = []

    @pgq.task(max_retries=0)
    async def monitor(ctx: JobContext, page: int) -> int:
        got = await ctx.wait_for_event("page", int, timeout=LONG)
        assert got is not None
        pages.append((page, got, await db.fetchval("select count(*) from pgqueue.step")))
        if page < 5:
            raise ctx.restart(page + 1)
        return page

    @pgq.task(max_retries=0)
    async def wrong(ctx: JobContext, page: int) -> None:
        raise ctx.restart(page="x")

    job = await monitor.enqueue(1)
    async with pgq.worker():
        for number in range(5):
            await pgq.signal(job.id, "page", number)
        assert await job.result(timeout=WITHIN) == 5
        with pytest.raises(JobFailed, match="page"):
            await (await wrong.enqueue(1)).result(timeout=WITHIN)
    assert pages == [(number + 1, number, 2) for number in range(5)]
    assert await pgq.attempts(job.id) == []


@pytest.mark.core
@pytest.mark.contract("P7.25")
async def test_an_ended_job_runs_again_from_a_step_or_is_copied_up_to_it(pgq: PgQueue) -> None:
    runs: list[str] = []

    def act(name: str) -> str:
        runs.append(name)
        return name

    @pgq.task
    async def work(ctx: JobContext, mark: str) -> str:
        await ctx.step("a", act, "a")
        await ctx.sleep("nap", 0)
        await ctx.step("b", act, "b")
        return mark + await ctx.step("c", act, "c")

    job = await work.enqueue("x")
    with pytest.raises(InvalidStepError, match="not ended"):
        await pgq.restart_from(job.id, "b")
    with pytest.raises(InvalidStepError, match="not ended"):
        await pgq.fork(job.id, "b")
    async with pgq.worker():
        assert await job.result(timeout=WITHIN) == "xc"
        for call in (pgq.restart_from, pgq.fork):
            with pytest.raises(InvalidStepError, match="no step"):
                await call(job.id, "d")
            with pytest.raises(JobNotFoundError):
                await call(uuid4(), "b")
        await pgq.restart_from(job.id, "b")
        assert await job.result(timeout=WITHIN) == "xc"
        assert runs == [*"abc", *"bc"]
        copy = await pgq.fork(job.id, "c")
        assert copy.id != job.id
        assert await copy.result(timeout=WITHIN) == "xc"
        assert runs == [*"abc", *"bc", "c"]


@pytest.mark.contract("P7.25")
async def test_a_changed_order_of_waits_is_an_error_that_names_both(pgq: PgQueue) -> None:
    order = ["first", "second"]

    @pgq.task(max_retries=0)
    async def work(ctx: JobContext) -> None:
        for name in order:
            await ctx.sleep(name, LONG)

    @pgq.task(max_retries=0)
    async def kind(ctx: JobContext) -> None:
        if order[0] == "second":
            await ctx.sleep("one", 0)
        await ctx.step("one", int)
        await ctx.wait_for_event("go", int)

    jobs = [await work.enqueue(), await kind.enqueue()]
    async with pgq.worker():
        for job in jobs:
            await blocked(job)
    order.reverse()
    await jobs[1].cancel()
    await pgq.requeue(jobs[1].id)
    await jobs[0].cancel()
    await pgq.requeue(jobs[0].id)
    async with pgq.worker():
        with pytest.raises(JobFailed, match=r"'second' comes now.*'first'"):
            await jobs[0].result(timeout=WITHIN)
        with pytest.raises(JobFailed, match="was a step"):
            await jobs[1].result(timeout=WITHIN)


Way = Callable[[JobContext], Awaitable[Any]]


async def number_of(value: int) -> int:
    return value


async def fail_once(tries: list[int]) -> int:
    tries.append(1)
    if len(tries) == 1:
        raise ConnectionResetError
    return 7


def way(*stops: str) -> Way:
    """Return a handler that comes to these stops: `kind:name`."""

    async def walk(ctx: JobContext) -> None:
        for stop in stops:
            kind, _, name = stop.partition(":")
            if kind == "step":
                await ctx.step(name, number_of, 1)
            elif kind == "sleep":
                await ctx.sleep(name, 0)
            elif kind == "event":
                await ctx.wait_for_event(name, int)
            elif kind == "start":
                await ctx.start(name, signature(ctx))
            elif kind == "run":
                await ctx.run(name, signature(ctx))
            elif kind == "beside":
                await asyncio.gather(*(ctx.step(each, number_of, 1) for each in name.split(",")))
            else:
                raise ConnectionResetError

    return walk


def signature(ctx: JobContext) -> Any:
    """Return a call of a task that ends at once."""
    return CHILD.get().s()


CHILD: ContextVar[Any] = ContextVar("child")

_NAMES = {"step": "step", "sleep": "sleep", "event": "event", "start": "workflow", "run": "workflow"}

ORDERS: dict[str, tuple[Way, Way, str | None]] = (
    {
        f"{one} before {other}": (
            way(f"{one}:a", f"{other}:b", "fail"),
            way(f"{other}:b", f"{one}:a"),
            rf"{_NAMES[other]} 'b' comes now.*{_NAMES[one]} 'a'",
        )
        for one in _NAMES
        for other in _NAMES
    }
    | {
        f"{one} becomes {other}": (way(f"{one}:a", "fail"), way(f"{other}:a"), r"'a' was a.* and is a")
        for one in _NAMES
        for other in _NAMES
        if _NAMES[one] != _NAMES[other]
    }
    | {
        "one put before": (
            way("step:a", "fail"),
            way("step:new", "step:a"),
            "step 'new' comes now.*step 'a'",
        ),
        "one taken out": (way("step:a", "step:b", "fail"), way("step:b"), "step 'b' comes now.*step 'a'"),
        "one renamed": (way("sleep:a", "fail"), way("sleep:b"), "sleep 'b' comes now.*sleep 'a'"),
        "one added": (way("step:a", "fail"), way("step:a", "sleep:new", "event:e"), None),
        "no more": (way("step:a", "step:b", "fail"), way(), None),
        "side by side": (way("beside:a,b", "step:c", "fail"), way("beside:b,a", "step:c"), None),
        "no longer side by side": (
            way("beside:a,b", "step:c", "fail"),
            way("step:b", "step:a", "step:c"),
            None,
        ),
    }
)


@pytest.mark.core
@pytest.mark.contract("P7.25")
async def test_steps_and_waits_in_another_order_fail_the_job_by_an_error_that_names_both(
    pgq: PgQueue,
) -> None:
    ways = {case: [before, after] for case, (before, after, _) in ORDERS.items()}

    @pgq.task
    async def child() -> int:
        return 7

    @pgq.task(max_retries=20, default_retry_delay=0)
    async def work(ctx: JobContext, case: str) -> None:
        CHILD.set(child)
        try:
            await ways[case][0](ctx)
        except ConnectionResetError:
            del ways[case][0]
            raise

    jobs = {case: await work.enqueue(case) for case in ORDERS}
    for job in jobs.values():
        for name in "abe":
            await pgq.signal(job.id, name, 1)
    async with pgq.worker():
        for case, (_, _, problem) in ORDERS.items():
            error = None
            try:
                await jobs[case].result(timeout=WITHIN)
            except JobFailed as failed:
                error = failed
            if problem is None:
                assert error is None, case
            else:
                assert error is not None, case
                assert (error.error_type, len(await pgq.attempts(jobs[case].id))) == ("StepOrderError", 2)
                assert re.search(problem, error.error_message), case


@pytest.mark.contract("P7.25")
async def test_what_no_attempt_remembers_is_no_change_of_the_order(pgq: PgQueue) -> None:
    """A step that failed and succeeds the next time; an error outside of steps; another call."""
    tries: list[int] = []

    @pgq.task(max_retries=5, default_retry_delay=0)
    async def falls_back(ctx: JobContext) -> str:
        for number in range(3):
            try:
                await ctx.step("a", fail_once, tries)
                break
            except ConnectionResetError:
                await ctx.sleep(f"pause {number}", 0.001)
        return str(await ctx.step("b", number_of, 1))

    @pgq.task(max_retries=5, default_retry_delay=0)
    async def reports(ctx: JobContext) -> str:
        try:
            if ctx.attempt == 1:
                raise ConnectionResetError  # noqa: TRY301  # as code outside of steps does
            return str(await ctx.step("a", number_of, 1))
        except ConnectionResetError:
            await ctx.step("report", number_of, 1)
            raise

    @pgq.task
    async def pages(ctx: JobContext, page: int) -> str:
        await ctx.step(f"page {page}", number_of, page)
        if page < 3:
            raise ctx.retry(args=(page + 1,), countdown=0)
        return str(page)

    jobs = [await falls_back.enqueue(), await reports.enqueue(), await pages.enqueue(1)]
    async with pgq.worker():
        assert [await job.result(timeout=WITHIN) for job in jobs] == ["1", "1", "3"]


@pytest.mark.core
@pytest.mark.contract("P7.25")
@pytest.mark.parametrize("verb", ["restart_from", "fork"])
async def test_a_sleep_that_is_begun_again_takes_its_whole_time(
    pgq: PgQueue, db: Connection, verb: str
) -> None:
    @pgq.task
    async def nap(ctx: JobContext) -> None:
        await ctx.step("a", number_of, 1)
        await ctx.sleep("nap", LONG)

    job = await nap.enqueue()
    async with pgq.worker():
        await blocked(job)
        await job.cancel()
        first = await db.fetchval("select result #>> '{}' from pgqueue.step where name = 'nap/until'")
        again = job
        if verb == "fork":
            again = await pgq.fork(job.id, "nap")
        else:
            await pgq.restart_from(job.id, "nap")
        await blocked(again)
        second = await db.fetchval(
            "select result #>> '{}' from pgqueue.step where name = 'nap/until' and job_id = $1", again.id
        )
    assert second > first
