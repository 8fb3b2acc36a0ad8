"""What a handler can know of the job that it runs, and do for it. Knows no database: see JobServices."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, Protocol, TypeVar, overload
from uuid import UUID, uuid5

from pgqueue.errors import ContextError, InvalidStepError
from pgqueue.model.checks import Duration
from pgqueue.model.job_info import JobInfo
from pgqueue.model.progress import encode_progress
from pgqueue.model.unset import UNSET, Unset
from pgqueue.retry.control import ControlFlow, Retry, Snooze

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

P = ParamSpec("P")
R = TypeVar("R")

MAX_STEP_NAME: Final = 200


class JobServices(Protocol):
    """What a context reaches the database through: made for one attempt, by whoever runs it."""

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """See JobContext.transaction."""

    async def step(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See JobContext.step."""

    def progress(self, report: str) -> None:
        """Take note of a report, as JSON. From any thread."""


CheckCall = Callable[[tuple[Any, ...], Mapping[str, Any]], object]
"""Raises InvalidArgumentsError for arguments that do not fit the job's task."""


class JobContext(JobInfo):
    """The running job, for its handler: declare a parameter of this type and it is passed.

    Code further down the stack asks `current_job()`.
    """

    __slots__ = ("_check_call", "_is_stopped", "_services")

    def __init__(
        self,
        *,
        job_id: UUID,
        task: str,
        queue: str,
        priority: int,
        attempt: int,
        losses: int,
        key: str | None,
        headers: str | None,
        worker: str,
        services: Callable[[], JobServices],
        is_stopped: Callable[[], bool] = lambda: False,
        check_call: CheckCall | None = None,
    ) -> None:
        super().__init__(
            job_id=job_id,
            task=task,
            queue=queue,
            priority=priority,
            attempt=attempt,
            losses=losses,
            key=key,
            headers=headers,
            worker=worker,
        )
        self._check_call = check_call
        self._is_stopped = is_stopped
        # Called when the handler asks for one of them: most never do.
        self._services = services

    @property
    def is_stopped(self) -> bool:
        """Whether this attempt was told to stop: cancelled, over its hard limit, or its worker stops.

        A coroutine hears of it by a CancelledError. A plain function in a thread cannot be interrupted, and
        counts for nothing any more: one that takes long asks here, between its steps, and returns.
        """
        return self._is_stopped()

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: Duration | None = None,
        eta: datetime | None = None,
        max_retries: int | None | Unset = UNSET,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """Have this job, under the same id, run again: always raises, so `raise ctx.retry(...)` reads well.

        *exc*: what went wrong, by default the exception being handled; it is kept with the attempt, and is
        the job's error if its retries are exhausted. *countdown*: when, in seconds or as timedelta; *eta*:
        when, as an aware time; neither: as the task's options say. *max_retries*: another limit, from now on;
        None is no limit. *args*, *kwargs*: the call that replaces the job's, whole.

        Raises InvalidArgumentsError for a call that does not fit the task, InvalidOptionError.
        """
        handled = sys.exception()
        if exc is None and not isinstance(handled, ControlFlow):
            exc = handled
        signal = Retry(exc, countdown=countdown, eta=eta, max_retries=max_retries, args=args, kwargs=kwargs)
        if signal.call is not None and self._check_call is not None:
            self._check_call(*signal.call)
        raise signal from exc

    def snooze(self, delay: Duration) -> NoReturn:
        """Have this job run again after *delay*, this attempt unspent: always raises. See `Snooze`."""
        raise Snooze(delay)

    def idempotency_key_for(self, step: str) -> str:
        """Return a key for one of several effects of this job. Raises InvalidStepError.

        The same in every attempt, and no other job's or step's: what a payment provider wants for each
        payment. A UUID: no provider finds it too long.
        """
        check_step_name(step)
        return str(uuid5(self.job_id, step))

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """Open a block whose writes are committed together with this job's success, or not at all.

            async with ctx.transaction() as connection:
                await connection.execute(BOOK_INVOICE, amount)

        *connection* is an asyncpg connection of this database. What the block wrote becomes visible when the
        handler has returned and the job has succeeded: one commit for both. If the handler raises, is
        cancelled or overruns its time, or the worker is lost, nothing of it stays. Several blocks are one
        transaction; an exception takes back what its own block wrote. The connection, and what it locked, is
        held until the handler returns: do what takes long before.

        Raises LeaseLostError, DatabaseUnavailableError, ContextError (in a plain function, or while another
        asyncio task has a block open).
        """
        self._check_is_async("transaction")
        return self._services().transaction()

    @overload
    def step(
        self, name: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def step(
        self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Call `fn(*args, **kwargs)`, unless an attempt before this one did: then return what it returned.

            receipt = await ctx.step("charge", charge, card, amount)

        The result is stored as JSON, by the function's own annotation, under the job and *name*; what is
        returned is what a rerun would return. A function that raises has stored nothing, and may be tried
        again. A plain function is called in a thread. A worker that dies between the function's end and the
        storing leaves nothing stored, so the function can run twice: pass `ctx.idempotency_key_for(name)` on.
        What is stored stays as long as the job, also if it is retried or redriven with other arguments.

        Raises InvalidStepError (a name that is empty, too long or used before in this attempt; a result that
        cannot be stored), LeaseLostError, DatabaseUnavailableError, ContextError (in a plain function).
        """
        self._check_is_async("step")
        check_step_name(name)
        return self._services().step(name, fn, args, kwargs)

    def progress(self, current: float, total: float | None = None, meta: Any = None) -> None:
        """Say how far the job has come: *current* of *total*, with *meta* (at most 8 KiB as JSON).

        Returns at once, from any thread, however often it is called: the worker writes the last report about
        twice a second, and before the job ends. Read it as `Job.progress`. Raises InvalidProgressError,
        LeaseLostError.
        """
        self._services().progress(encode_progress(current, total, meta))

    def _check_is_async(self, method: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ContextError(
                f"task {self.task!r}: ctx.{method}() works in `async def` handlers, and this code runs in a "
                "thread: declare the handler with `async def`"
            ) from None

    def __repr__(self) -> str:
        return f"<JobContext {self.task} {self.job_id}, attempt {self.attempt}>"


def check_step_name(name: str) -> None:
    """Raise InvalidStepError unless a step can have this name."""
    if not isinstance(name, str) or not name:
        raise InvalidStepError(f"the name of a step is {name!r}: give a text that is not empty")
    if len(name) > MAX_STEP_NAME:
        raise InvalidStepError(
            f"the name of a step is {len(name)} characters long: give at most {MAX_STEP_NAME}"
        )
    if "\0" in name or not name.isprintable():
        raise InvalidStepError(f"the name of a step is {name!r}: give printable characters")


class HasContext(Protocol):
    """An attempt, as far as the code that it runs may ask for it."""

    @property
    def context(self) -> JobContext:
        """The context of the attempt's job."""


# Holds the attempt and not its context: most handlers never ask, and need none made.
running_attempt: ContextVar[HasContext | None] = ContextVar("pgqueue_running_attempt", default=None)


def current_job() -> JobContext:
    """Return the context of the job that this code runs for. Raises RuntimeError outside of a job."""
    attempt = running_attempt.get()
    if attempt is None:
        raise RuntimeError("no job is running here: current_job() works inside a task's handler")
    return attempt.context
