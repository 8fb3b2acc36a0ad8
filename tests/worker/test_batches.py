"""Batch handlers: one call for many jobs, each of which stays a job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import pytest
from kit.waiting import eventually, has_status

from pgqueue import (
    Batch,
    BatchItem,
    InvalidArgumentsError,
    InvalidOptionError,
    InvalidTaskError,
    JobCancelled,
    JobFailed,
    JobStatus,
    PgQueue,
    Reject,
)
from pgqueue.tasks.batches import batch_handler
from pgqueue.testing import inline

if TYPE_CHECKING:
    from conftest import Connection


@dataclass
class Document:
    name: str
    size: int = 1


@pytest.mark.contract("P8.5")
async def test_one_call_of_the_handler_answers_for_many_jobs_each_by_its_id(
    pgq: PgQueue, db: Connection
) -> None:
    sizes: list[int] = []

    @pgq.task(Batch(size=4, window=1), max_retries=0)
    async def double(items: list[BatchItem[Document]]) -> Mapping[UUID, Any]:
        sizes.append(len(items))
        assert all(type(item.value) is Document for item in items)
        # In another order than theirs: nothing goes by places.
        return {
            item.id: ValueError(f"odd: {item.value.size}") if item.value.size % 2 else item.value.size * 2
            for item in reversed(items)
        }

    handles = [await double.enqueue(Document("a", number)) for number in range(10)]
    async with pgq.worker(concurrency=20):
        for number, handle in enumerate(handles):
            if number % 2:
                with pytest.raises(JobFailed, match=f"odd: {number}"):
                    await handle.result(60)
            else:
                assert await handle.result(60) == number * 2

    assert sum(sizes) == 10
    assert max(sizes) == 4
    # One record of an attempt for each job that did not succeed.
    assert await db.fetchval("select count(*) from pgqueue.attempt") == 5


@pytest.mark.contract("P8.5")
async def test_jobs_of_a_batch_are_retried_one_by_one(pgq: PgQueue) -> None:
    seen: list[tuple[str, int]] = []

    @pgq.task(Batch(size=3, window=1), default_retry_delay=0, retry_backoff=False, max_retries=1)
    async def index(items: list[BatchItem[str]]) -> Mapping[UUID, Any] | None:
        seen.extend((item.value, item.context.attempt) for item in items)
        named = {item.value: item.id for item in items}
        failed: dict[UUID, Any] = {
            named[name]: error
            for name, error in (("never", Reject("no")), ("bad", OSError("again")))
            if name in named
        }
        return failed or None

    good, bad, never = [await index.enqueue(name) for name in ("good", "bad", "never")]
    async with pgq.worker(concurrency=3):
        assert await good.result(60) is None
        with pytest.raises(JobFailed, match="again"):
            await bad.result(60)
        with pytest.raises(JobFailed, match="no"):
            await never.result(60)

    assert sorted(seen) == [("bad", 1), ("bad", 2), ("good", 1), ("never", 1)]


@pytest.mark.contract("P8.5")
async def test_a_handler_that_raises_fails_the_attempts_of_all_its_jobs(pgq: PgQueue) -> None:
    @pgq.task(Batch(size=2, window=60), max_retries=0)
    def load(items: list[BatchItem[int]]) -> None:
        raise SystemExit(f"{len(items)} at once")

    handles = [await load.enqueue(number) for number in range(2)]
    async with pgq.worker(concurrency=2):
        for handle in handles:
            with pytest.raises(JobFailed, match="2 at once"):
                await handle.result(60)


@pytest.mark.contract("P8.5")
@pytest.mark.parametrize("reply", ["strange", "positions", "list"])
async def test_wrong_ids_fail_the_jobs_that_may_have_been_meant_and_no_other(
    pgq: PgQueue, reply: str
) -> None:
    @pgq.task(Batch(size=3, window=1), default_retry_delay=0, retry_backoff=False)
    async def index(items: list[BatchItem[str]]) -> Any:
        if items[0].context.attempt > 1:
            return {item.id: "second time" for item in items}
        [named] = [item for item in items if item.value == "named"]
        answers: dict[str, Any] = {
            "strange": {str(named.id): "named", uuid4(): ValueError("whose?")},
            "positions": {named.id: "named", 0: ValueError("whose?")},
            "list": ["named"] * len(items),
        }
        return answers[reply]

    handles = [await index.enqueue(name) for name in ("named", "other", "third")]
    async with pgq.worker(concurrency=3):
        results = [await handle.result(60) for handle in handles]

    assert results == ["second time" if reply == "list" else "named", "second time", "second time"]
    [attempt] = await pgq.attempts(handles[1].id)
    assert attempt.error is not None
    assert attempt.error.type.endswith("BatchReplyError")


@pytest.mark.contract("P8.5")
async def test_an_item_that_is_answered_twice_is_retried_and_no_failure_is_hidden(pgq: PgQueue) -> None:
    @pgq.task(Batch(size=2, window=0.2), default_retry_delay=0, retry_backoff=False)
    async def index(items: list[BatchItem[str]]) -> Any:
        if items[0].context.attempt > 1:
            return {item.id: "second time" for item in items}
        # One id in two forms: the last of them would stand for both.
        twice = {each.id: ValueError("hidden") for each in items if each.value == "twice"}
        return {
            **twice,
            **{str(each): "well" for each in twice},
            **{each.id: "once" for each in items if each.value != "twice"},
        }

    handles = [await index.enqueue(name) for name in ("twice", "other")]
    async with pgq.worker(concurrency=2):
        results = [await handle.result(60) for handle in handles]

    assert results == ["second time", "once"]
    [attempt] = await pgq.attempts(handles[0].id)
    assert attempt.error is not None
    assert "answered twice" in attempt.error.message


@pytest.mark.contract("P8.5")
async def test_what_says_which_ids_were_wrong_is_short(pgq: PgQueue) -> None:
    @pgq.task(Batch(size=1, window=0.1), max_retries=0)
    async def index(items: list[BatchItem[str]]) -> Any:
        return {"x" * 1_000_000: 1}

    handle = await index.enqueue("one")
    async with pgq.worker(concurrency=1):
        with pytest.raises(JobFailed, match="'xxx") as failure:
            await handle.result(60)

    assert len(str(failure.value)) < 1000


@pytest.mark.contract("P8.5")
async def test_a_call_in_a_thread_counts_until_it_returns_though_nobody_waits_for_it(pgq: PgQueue) -> None:
    story: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    @pgq.task(Batch(size=1, window=0, concurrency=1), max_retries=0)
    def index(items: list[BatchItem[str]]) -> None:
        [item] = items
        story.append(f"{item.value} begins")
        begun.set()
        go_on.wait(60)
        story.append(f"{item.value} ends")

    async with pgq.worker(concurrency=2):
        gone = await index.enqueue("gone")
        await asyncio.to_thread(begun.wait, 60)
        await gone.cancel()
        with pytest.raises(JobCancelled):
            await gone.result(60)
        other = await index.enqueue("other")
        await eventually(partial(has_status, other, JobStatus.RUNNING))
        await asyncio.sleep(0.2)  # in which a second call would begin
        go_on.set()
        await other.result(60)

    assert story == ["gone begins", "gone ends", "other begins", "other ends"]


@pytest.mark.contract("P8.5")
async def test_no_job_waits_for_longer_than_the_window_once_a_call_may_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    now, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: now() + ahead)
    calls: list[list[str]] = []
    go_on = asyncio.Event()

    async def index(items: list[BatchItem[str]]) -> None:
        calls.append([item.value for item in items])
        await go_on.wait()

    run, _ = batch_handler("index", index, Batch(size=3, window=600, concurrency=1))

    async def begin(*values: str) -> list[asyncio.Task[Any]]:
        begun = [asyncio.create_task(run(SimpleNamespace(job_id=uuid4()), value)) for value in values]
        for _ in range(10):
            await asyncio.sleep(0)
        return begun

    jobs = await begin(*"abcdefgh")
    assert calls == [["a", "b", "c"]]
    # The window of the others ends while the first call goes on.
    ahead = 601
    await begin()
    go_on.set()
    with anyio.fail_after(60):
        await asyncio.gather(*jobs)
    assert calls == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]

    # The window is that of the first that still waits.
    [left] = await begin("left")
    ahead += 300
    [stays] = await begin("stays")
    left.cancel()
    await begin()
    ahead += 301
    await begin()
    assert calls[3:] == []
    ahead += 300
    with anyio.fail_after(60):
        await stays
    assert calls[3:] == [["stays"]]


@pytest.mark.contract("P8.5")
async def test_a_job_that_is_cancelled_or_too_late_leaves_its_batch_which_goes_on(pgq: PgQueue) -> None:
    begun, go_on, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @pgq.task(Batch(size=3, window=1), max_retries=0)
    async def index(items: list[BatchItem[str]]) -> Mapping[UUID, Any]:
        begun.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return {item.id: item.value for item in items}

    stays, asked = await index.enqueue("stays"), await index.enqueue("asked")
    late = await index.options(timeout=0.5, soft_timeout=None).enqueue("late")
    async with pgq.worker(concurrency=3):
        await begun.wait()
        await asked.cancel()
        with pytest.raises(JobCancelled):
            await asked.result(60)
        with pytest.raises(JobFailed, match="hard time limit"):
            await late.result(60)
        assert await stays.status() is JobStatus.RUNNING
        go_on.set()
        assert await stays.result(60) == "stays"
        assert not cancelled.is_set()

        # Nobody waits for this one any more.
        begun.clear()
        go_on.clear()
        alone = await index.enqueue("alone")
        await begun.wait()
        await alone.cancel()
        with anyio.fail_after(60):
            await cancelled.wait()


@pytest.mark.contract("P8.5")
async def test_a_worker_that_stops_returns_the_jobs_of_a_batch(pgq: PgQueue) -> None:
    begun = asyncio.Event()

    @pgq.task(Batch(size=2, window=0.1))
    async def index(items: list[BatchItem[int]]) -> None:
        begun.set()
        await asyncio.Event().wait()

    handles = [await index.enqueue(number) for number in range(2)]
    async with pgq.worker(concurrency=2, grace=0.1):
        await begun.wait()

    assert [await handle.status() for handle in handles] == [JobStatus.PENDING] * 2


@pytest.mark.contract("P8.5")
async def test_batches_keep_their_concurrency_and_limits_hold_their_jobs(pgq: PgQueue) -> None:
    running, most, sizes = 0, 0, []
    two = pgq.limit("two", slots=2)

    async def count(items: list[BatchItem[int]]) -> None:
        nonlocal running, most
        sizes.append(len(items))
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    @pgq.task(Batch(size=2, window=0.02, concurrency=1))
    async def one(items: list[BatchItem[int]]) -> None:
        await count(items)

    @pgq.task(Batch(size=8, window=timedelta(milliseconds=50)), limits=[two])
    async def limited(items: list[BatchItem[int]]) -> None:
        await count(items)

    for task in (one, limited):
        running, most, sizes = 0, 0, []
        handles = [await task.enqueue(number) for number in range(8)]
        async with pgq.worker(concurrency=8):
            for handle in handles:
                await handle.result(60)
        assert sum(sizes) == 8
        assert max(sizes) <= 2
        if task is one:
            assert most == 1


@pytest.mark.contract("P8.5")
async def test_a_batch_waits_for_no_more_jobs_than_the_worker_has_slots(pgq: PgQueue) -> None:
    @pgq.task(Batch(size=1000, window=600))
    async def index(items: list[BatchItem[int]]) -> Mapping[UUID, Any]:
        return {item.id: len(items) for item in items}

    handles = [await index.enqueue(number) for number in range(4)]
    async with pgq.worker(concurrency=2):
        assert [await handle.result(60) for handle in handles] == [2] * 4


@pytest.mark.contract("P8.5")
async def test_what_a_batch_task_takes_is_one_argument_of_the_type_of_its_items(pgq: PgQueue) -> None:
    @pgq.task(Batch(size=2, window=0.05))
    async def index(items: list[BatchItem[Document]]) -> Mapping[UUID, Any]:
        return {item.id: item.value.name for item in items}

    with pytest.raises(InvalidArgumentsError):
        await index.enqueue("no document")  # type: ignore[arg-type]  # what is refused
    by_name = await pgq.enqueue_by_name("index", item={"name": "a"})
    async with pgq.worker():
        assert await by_name.result(60) == "a"
    assert await index([]) == {}  # type: ignore[arg-type]  # a direct call gets the whole batch


@pytest.mark.contract("P8.5")
async def test_without_a_server_a_job_runs_in_a_batch_of_one() -> None:
    pgq = PgQueue()

    @pgq.task(Batch(size=10, window=0.01))
    async def shout(items: list[BatchItem[str]]) -> Mapping[UUID, Any]:
        return {item.id: [item.value.upper(), len(items)] for item in items}

    with inline(pgq):
        handle = await shout.enqueue("a")
        assert await handle.result() == ["A", 1]


@pytest.mark.contract("P8.5")
def test_what_cannot_be_a_batch_is_refused_at_its_declaration(pgq: PgQueue) -> None:
    wrong: list[Any] = [
        lambda items: None,
        _none,
        _two,
        _plain,
        _generator,
    ]
    for handler in wrong:
        with pytest.raises(InvalidTaskError):
            pgq.task(Batch(), name="wrong")(handler)
    with pytest.raises(InvalidTaskError, match="isolation"):
        pgq.task(Batch(), name="wrong", isolation="process")(_fits)  # type: ignore[call-overload]
    wrong_options: list[dict[str, Any]] = [
        {"size": 0}, {"size": 10_001}, {"size": "9"}, {"window": -1}, {"window": float("nan")},
        {"window": 3601}, {"concurrency": 0},
    ]  # fmt: skip
    for options in wrong_options:
        with pytest.raises(InvalidOptionError):
            Batch(**options)


@pytest.mark.contract("P8.5")
def test_a_plain_task_pays_nothing_for_batches(pgq: PgQueue) -> None:
    @pgq.task
    async def plain() -> None: ...

    definition = plain.definition
    assert definition.handler is definition.called
    assert definition.collector is None
    assert definition.is_async


async def _none() -> None: ...
async def _two(items: list[BatchItem[int]], more: int) -> None: ...
async def _plain(items: list[int]) -> None: ...
async def _generator(items: list[BatchItem[int]]) -> Any:
    yield None


async def _fits(items: list[BatchItem[int]]) -> None: ...
