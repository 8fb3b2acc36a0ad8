"""Calls from another event loop are refused before anything is done."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio.from_thread
import pytest

from pgqueue import (
    ConfigurationError,
    DeadLetterFilter,
    JobFilter,
    JobStatus,
    PgQueue,
    Task,
    WorkflowHandle,
    WrongEventLoopError,
    chain,
    group,
)

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.handlers

MANY = JobFilter(task="work")
NEEDED: dict[str, dict[str, Any]] = {
    "pause": {"queue": "default"},
    "set_limit": {"slots": 1},
    "resume": {"queue": "default"},
    "configure_task": {"timeout": 5},
    "discard_many": {"all": True},
    "redrive_many": {"all": True},
    "begin_bulk": {"all": True},
    "edit": {"priority": 4},
}
"""What a method needs although its signature does not say so."""


ANYWHERE = {"PgQueue.migrate", "PgQueue.pending_migrations"}
"""They have a connection of their own, in any event loop."""


class Subjects:
    """Everything that has methods to await, and what to call them with."""

    def __init__(self, pgq: PgQueue, task: Task[[int], int], job: Any, many: Any, flow: Any) -> None:
        redrive, bulk = many
        builder = pgq.workflow("flow")
        builder.add("first", task.s(1))
        self.objects: dict[str, Any] = {
            "PgQueue": pgq,
            "Task": task,
            "Task of options": task.options(queue="limited", idempotency_key="key"),
            "Task in a transaction": task.options(connection=cast("Connection", object())),
            "Signature": task.s(1),
            "Immutable": task.si(1),
            "Chain": chain(task.s(1), task.s()),
            "Group": group(task.s(1), task.s(2)),
            "WorkflowBuilder": builder,
            "JobHandle": job,
            "RedriveHandle": redrive,
            "BulkHandle": bulk,
            "WorkflowHandle": flow,
        }
        self.arguments: dict[str, Any] = {
            "job_id": job.id,
            "workflow_id": flow.workflow_id,
            "redrive_id": redrive.id,
            "bulk_id": bulk.id,
            "verb": "cancel",
            "ids": [job.id],
            "slots": 1,
            "on_dead": "skip",
            "key": "tenant",
            "weight": 1,
            "signature": pgq.signature("work", 1),
            "signatures": [pgq.signature("work", 1)] * 3,
            "canvas": chain(task.s(1), task.s()),
            "dag": builder,
            "task": "work",
            "name": "work",
            "step": "charge",
            "queue": "default",
            "chosen": MANY,
            "wanted": DeadLetterFilter(task="work"),
            "source": "source",
            "event_id": "event",
            "owner": "owner",
            "session": "session",
            "valid_until": 1.0,
            "priority": 1,
        }

    def calls(self) -> dict[str, Callable[[], Any]]:
        """Return what calls each method that is awaited, or iterated, with what it needs at least."""
        return {
            f"{what}.{name}": partial(self._call, method)
            for what, each in self.objects.items()
            for name, method in inspect.getmembers(each, inspect.ismethod)
            if not name.startswith("_") and is_asynchronous(method)
        }

    def _call(self, method: Callable[..., Any]) -> Any:
        if isinstance(method.__self__, Task):  # type: ignore[attr-defined]  # a bound method
            return method(1)
        needed = [
            each
            for each in inspect.signature(method).parameters.values()
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        by_place = [self.arguments[each.name] for each in needed if each.kind is not each.KEYWORD_ONLY]
        by_name = {each.name: self.arguments[each.name] for each in needed if each.kind is each.KEYWORD_ONLY}
        return method(*by_place, **by_name, **NEEDED.get(method.__name__, {}))


def is_asynchronous(method: Callable[..., Any]) -> bool:
    """Whether a method is awaited, or returns what is iterated asynchronously."""
    returns = str(inspect.signature(method).return_annotation)
    return (
        inspect.iscoroutinefunction(method)
        or inspect.isasyncgenfunction(method)
        or returns.startswith(("AsyncGenerator", "AsyncIterator", "Awaitable"))
    )


async def first_of(called: Any) -> object:
    """Await *called*, or the first that it yields."""
    return await (anext(called) if isinstance(called, AsyncIterator) else called)


@pytest.mark.contract("W22")
async def test_every_call_from_another_event_loop_is_refused_and_does_nothing(pgq: PgQueue) -> None:
    @pgq.task(name="work")
    async def work(number: int) -> int:
        return number

    pgq.queue("limited", max_depth=5)
    job = await work.enqueue(1)
    flow = await chain(work.s(1), work.s()).enqueue()
    redrive = await pgq.redrive_many(DeadLetterFilter(task="work"))
    bulk = await pgq.begin_bulk("discard", JobFilter(task="work"))
    before = await state_of(pgq, flow)
    calls = Subjects(pgq, work, job, (redrive, bulk), flow).calls()

    def call(name: str) -> BaseException | None:
        async def go() -> object:
            with anyio.fail_after(60):
                return await first_of(calls[name]())

        try:
            asyncio.run(go())
        except Exception as error:
            return error
        return None

    raised = {name: await asyncio.to_thread(call, name) for name in calls}

    again = raised.pop("PgQueue.open")
    assert isinstance(again, ConfigurationError), again
    assert {name for name, error in raised.items() if error is None} == ANYWHERE
    others = {name: repr(error) for name, error in raised.items() if error is not None}
    assert {each: what for each, what in others.items() if not what.startswith("WrongEventLoopError")} == {}
    assert {"PgQueue.watch", "JobHandle.watch", "WorkflowHandle.results", "Group.enqueue"} <= calls.keys()
    # The loop that it belongs to goes on.
    assert await state_of(pgq, flow) == before
    assert await (await work.enqueue(1)).status() is JobStatus.PENDING


async def state_of(pgq: PgQueue, flow: WorkflowHandle[int]) -> object:
    """Return what calls could have changed."""
    jobs = [(each.id, each.status) for each in (await pgq.jobs()).jobs]
    return jobs, await flow.counts(), await pgq.settings(), await pgq.limits()


@pytest.mark.contract("W22")
async def test_a_plain_handler_calls_through_the_loop_of_its_worker(pgq: PgQueue) -> None:
    @pgq.task
    async def child(number: int) -> int:
        return number + 1

    @pgq.task
    def parent() -> int:
        job = anyio.from_thread.run(child.enqueue, 1)
        return anyio.from_thread.run(job.result)

    @pgq.task(max_retries=0)
    def by_another_loop() -> str:
        try:
            asyncio.run(child.enqueue(1))
        except WrongEventLoopError as error:
            return str(error)
        return "it was let in"

    async with pgq.worker():
        assert await (await parent.enqueue()).result(timeout=60) == 2
        assert "anyio.from_thread.run" in await (await by_another_loop.enqueue()).result(timeout=60)


@pytest.mark.contract("W22")
async def test_a_pgqueue_that_was_closed_can_be_opened_in_another_event_loop(dsn: str) -> None:
    pgq = PgQueue(dsn)
    async with pgq:
        first = await pgq.enqueue_by_name("work")

    def elsewhere() -> object:
        async def go() -> object:
            async with pgq:
                return (await pgq.get(first.id)).id

        return asyncio.run(go())

    assert await asyncio.to_thread(elsewhere) == first.id
