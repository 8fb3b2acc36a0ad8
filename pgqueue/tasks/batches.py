"""Batch handlers: one call of the handler for many jobs.

Each job stays a job: it has a slot, an attempt, limits, retries and a record of its own. What runs in its
slot only waits here, with others of its task, until there are enough of them or the first has waited for the
window; then the handler is called once for all. So claims, outcomes and fences know nothing of batches, and a
task without one pays nothing. What the handler answers goes to each job by its id, never by its place.

A job that is cancelled, or whose time is over, leaves its batch: the handler goes on for the others, and is
cancelled when all have left.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

import anyio.to_thread

from pgqueue.errors import BatchReplyError, InvalidOptionError, InvalidTaskError
from pgqueue.model.checks import Duration, integer, shown, some_seconds
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.wrapping import check_runs, is_coroutine_function

T_co = TypeVar("T_co", covariant=True)

MOST: Final = 10_000
LONGEST: Final = 3600.0
"""Seconds of a window."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How many jobs of a task its handler gets at once: `@pgq.task(Batch(size=100, window=0.5))`.

    *size*: the most, 1 to 10,000; never more than the worker has slots, since each job has one. *window*: how
    long the first job waits for others, in seconds or a timedelta, up to an hour. *concurrency*: how many
    calls of the handler run at once in a worker process; None: any number. Raises InvalidOptionError.
    """

    size: int = 100
    window: Duration = 0.5
    concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check them."""
        integer("Batch: size", self.size, least=1, most=MOST)
        if some_seconds("Batch: window", self.window) > LONGEST:
            raise InvalidOptionError(
                f"Batch: window must be at most {LONGEST:,.0f} seconds, got {self.window}"
            )
        if self.concurrency is not None:
            integer("Batch: concurrency", self.concurrency, least=1)

    @property
    def seconds(self) -> float:
        """The window in seconds."""
        return self.window.total_seconds() if isinstance(self.window, timedelta) else float(self.window)


@dataclass(frozen=True, slots=True, eq=False)
class BatchItem(Generic[T_co]):
    """One job of a batch."""

    value: T_co
    """The job's argument."""
    context: JobContext
    """What a handler can know about the job: attempt, headers, tags, `is_cancelled` and more."""

    @property
    def id(self) -> UUID:
        """The job's id: the key of its result, or of its failure, in what the handler returns."""
        return self.context.job_id


Reply = Mapping[UUID, Any] | None
"""What a batch handler returns: by the id of an item, its result, or the exception with which it has failed.
Items that are not in it have succeeded, with None; so have all after None."""


class _Entry:
    """An item, and who waits for its answer."""

    __slots__ = ("batch", "future", "item", "since")

    def __init__(self, item: BatchItem[Any], future: asyncio.Future[_Answer], since: float) -> None:
        self.item = item
        self.future = future
        self.since = since
        """When it came, by the clock of its event loop."""
        self.batch: _Running | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an item's job comes to: a result, or an error with the places that it came through."""

    result: Any = None
    error: BaseException | None = None
    trace: TracebackType | None = None


class _Running:
    """A call of the handler under way. It is cancelled when nobody waits for it any more."""

    def __init__(self, entries: Sequence[_Entry]) -> None:
        self.entries = entries
        self.waiting = len(entries)
        self.task: asyncio.Task[None] | None = None
        self.is_in_thread = False
        for entry in entries:
            entry.batch = self

    def leave(self) -> None:
        """Have one of its items not waited for."""
        self.waiting -= 1
        if self.waiting == 0 and self.task is not None:
            self.task.cancel()


class Collector:
    """Collects the jobs of one task in one event loop, and calls its handler for them."""

    def __init__(self, task: str, handler: Callable[..., Any], batch: Batch) -> None:
        self._task = task
        self._handler = handler
        self._batch = batch
        self._is_async = is_coroutine_function(handler)
        self._slots = 0
        self._begin_anew(None)

    def _begin_anew(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._waiting: list[_Entry] = []
        self._running: set[_Running] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        """Whether the first that waits has waited for the window."""

    def fit(self, slots: int) -> None:
        """Take note that a worker has so many slots: more jobs than that never come together."""
        self._slots = max(self._slots, slots)

    @property
    def _size(self) -> int:
        return min(self._batch.size, self._slots or self._batch.size)

    async def take(self, context: JobContext, value: Any) -> Any:
        """Return the result of one job, once the handler was called for it and others."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin_anew(loop)
        entry = _Entry(BatchItem(value, context), loop.create_future(), loop.time())
        self._waiting.append(entry)
        self._look()
        try:
            answer = await entry.future
        finally:
            # Reached by a cancellation and a soft limit, too.
            self._let_go(entry)
        if answer.error is not None:
            # One error may be that of many jobs: what it came through is not to grow with each.
            raise answer.error.with_traceback(answer.trace)
        return answer.result

    def _let_go(self, entry: _Entry) -> None:
        if entry.batch is None:
            if entry in self._waiting:
                self._waiting.remove(entry)
            self._set_timer()
        elif not entry.future.done() or entry.future.cancelled():
            entry.batch.leave()

    def _set_timer(self) -> None:
        """Have the first that waits come due at the end of its window: others may have left before it."""
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            assert self._loop is not None
            left = self._waiting[0].since + self._batch.seconds - self._loop.time()
            self._timer = self._loop.call_later(max(left, 0), self._come_due)

    def _come_due(self) -> None:
        self._timer, self._is_due = None, True
        self._look()

    def _look(self) -> None:
        """Call the handler for those that wait, if there are enough or it is time."""
        assert self._loop is not None
        most = self._batch.concurrency
        while (len(self._waiting) >= self._size or (self._waiting and self._is_due)) and (
            most is None or len(self._running) < most
        ):
            running = _Running(self._waiting[: self._size])
            self._waiting = self._waiting[self._size :]
            self._set_timer()
            self._running.add(running)
            # Without the context of the job that happened to be the last.
            running.task = self._loop.create_task(self._call(running), context=Context())
        if self._waiting and not self._is_due and self._timer is None:
            self._set_timer()

    async def _call(self, running: _Running) -> None:
        """Call the handler, and give each item its answer. Whatever the handler raises is theirs."""
        items = [entry.item for entry in running.entries]
        try:
            reply = await self._handler(items) if self._is_async else await self._in_thread(running, items)
            answers = self._read(running, reply)
        except BaseException as error:
            # BaseException: SystemExit would end the loop. A cancellation is this task's own, or from within.
            trace = error.__traceback__
            # Without this frame, which refers to all that wait for it.
            answers = [_Answer(error=error, trace=trace and trace.tb_next)] * len(items)
            del trace
        finally:
            # Nothing ends a thread: a call that nobody waits for any more is one until it returns.
            if not running.is_in_thread:
                self._running.discard(running)
        for entry, answer in zip(running.entries, answers, strict=True):
            if not entry.future.done():
                entry.future.set_result(answer)
        self._look()

    async def _in_thread(self, running: _Running, items: Sequence[BatchItem[Any]]) -> Any:
        loop = asyncio.get_running_loop()

        def call() -> Any:
            running.is_in_thread = True
            try:
                return self._handler(items)
            finally:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._leave_thread, running)

        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)

    def _leave_thread(self, running: _Running) -> None:
        running.is_in_thread = False
        if running.task is not None and running.task.done():
            self._running.discard(running)
            self._look()

    def _read(self, running: _Running, reply: object) -> list[_Answer]:
        """Return the answer for each item, in their order, from what the handler returned."""
        if reply is None:
            return [_Answer()] * len(running.entries)
        if not isinstance(reply, Mapping):
            wrong = BatchReplyError(
                self._task,
                f"it must return None or a mapping by the ids of items, got {type(reply).__name__}",
            )
            return [_Answer(error=wrong)] * len(running.entries)
        known = {entry.item.id for entry in running.entries}
        given: dict[object, Any] = {}
        strange, twice = [], set()
        for name, value in reply.items():
            meant = _id_of(name)
            if meant not in known:
                strange.append(name)
            elif meant in given:
                twice.add(meant)
            given[meant] = value
        missing = _Answer()
        if strange:
            # One of the others was meant, and nobody knows which: they run again, rather than one being lost.
            missing = _Answer(
                error=BatchReplyError(
                    self._task,
                    f"it returned ids that are not of its items ({', '.join(map(shown, strange[:3]))}), so "
                    "items that it did not name have failed; use `item.id`",
                )
            )
        # The ids are equal, the names are not: an id and its text, for example.
        ambiguous = _Answer(
            error=BatchReplyError(self._task, "it answered twice for this item; use `item.id`")
        )
        return [
            ambiguous
            if entry.item.id in twice
            else _answer(given[entry.item.id])
            if entry.item.id in given
            else missing
            for entry in running.entries
        ]


def _id_of(name: object) -> object:
    if isinstance(name, str):
        try:
            return UUID(name)
        except ValueError:
            return name
    return name


def _answer(value: Any) -> _Answer:
    if isinstance(value, BaseException):
        return _Answer(error=value, trace=value.__traceback__)
    return _Answer(result=value)


def batch_handler(
    task: str, handler: Callable[..., Any], batch: Batch
) -> tuple[Callable[..., Any], Collector]:
    """Return the handler of a single job of a batch task, and what collects them.

    Raises InvalidTaskError unless *handler* has one parameter, annotated as `list[BatchItem[...]]`.
    """
    check_runs(task, handler)
    of_value = _value_type(task, handler)
    collector = Collector(task, handler, batch)

    async def run(context: Any, item: Any) -> Any:
        return await collector.take(context, item)

    functools.update_wrapper(run, handler, updated=())
    del run.__wrapped__  # type: ignore[attr-defined]
    run.__annotations__ = {"context": JobContext, "item": of_value, "return": Any}
    return run, collector


def _value_type(task: str, handler: Callable[..., Any]) -> Any:
    """Return what the items of a batch handler have as their value."""
    try:
        [parameter] = inspect.signature(handler).parameters.values()
        annotation = get_type_hints(handler, include_extras=True)[parameter.name]
        [item] = get_args(annotation)
        if get_origin(annotation) in (list, Sequence) and get_origin(item) is BatchItem:
            return get_args(item)[0]
        if get_origin(annotation) in (list, Sequence) and item is BatchItem:
            return Any
    except (TypeError, ValueError, NameError, KeyError, AttributeError):
        # Any of these says that it is not as below.
        pass
    raise InvalidTaskError(
        f"task {task!r}: a batch handler has one parameter, annotated as list[BatchItem[...]] with the type "
        "of the job's argument, for example `async def index(items: list[BatchItem[str]])`"
    )
