"""What a handler can know about its job, and do for it. Knows no database: see JobServices."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, overload
from uuid import UUID, uuid5

import typing_extensions

from pgqueue.errors import CodecError, ContextError
from pgqueue.model.checks import Duration, some_seconds
from pgqueue.model.job_info import JobInfo
from pgqueue.model.progress import encode_progress
from pgqueue.model.unset import UNSET, Unset
from pgqueue.own_tasks import current_attempt
from pgqueue.retry.control import ControlFlow, Restart, Retry, Snooze
from pgqueue.tasks.job_services import JobServices
from pgqueue.tasks.refusals import describe_mismatch
from pgqueue.tasks.return_value import result_of
from pgqueue.tasks.step_names import check_step_name, check_wait_name
from pgqueue.tasks.workflow_handle import ChildHandle

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection
    from pgqueue.tasks.canvas import Canvas


P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S_co = typing_extensions.TypeVar("S_co", covariant=True, default=object)


class HasState(Protocol):
    """What has the state of a worker."""

    @property
    def state(self) -> Any:
        """What the lifespan of the worker yielded. Raises ContextError if there is none."""


CheckCall = Callable[[tuple[Any, ...], Mapping[str, Any]], object]
"""Raises InvalidArgumentsError for arguments that are invalid for the job's task."""


class JobContext(JobInfo, Generic[S_co]):
    """The running job, for its handler: declare a first parameter of this type and it is passed.

    Code further down the stack calls `current_job()`. `JobContext[State]` has a `state` of that type.
    """

    __slots__ = (
        "__weakref__",
        "_check_call",
        "_is_stopped",
        "_max_retries",
        "_module",
        "_services",
        "_worker_has",
    )

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
        worker_has: HasState | None = None,
        max_retries: int | None = None,
        module: str = "pgqueue.handlers",
        tags: str | None = None,
        created: float | None = None,
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
            tags=tags,
            created=created,
        )
        self._worker_has = worker_has
        self._max_retries = max_retries
        self._module = module
        self._check_call = check_call
        self._is_stopped = is_stopped
        # Called when the handler uses one of them: most never do.
        self._services = services

    @property
    def state(self) -> S_co:
        """What the worker's lifespan yielded: see `PgQueue.lifespan`. Raises ContextError if it has none."""
        if self._worker_has is None:
            raise ContextError(f"task {self.task!r}: ctx.state is there in a worker alone")
        state: S_co = self._worker_has.state
        return state

    @property
    def is_last_attempt(self) -> bool:
        """Whether the job fails for good if this attempt fails, because it has used up its `max_retries`.

        False says that it may be retried: errors that are not retried and `max_retry_duration` end it sooner.
        """
        return self._max_retries is not None and self.retries >= self._max_retries

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger of the handler's module; its records have `job_id`, `task`, `queue` and `attempt`."""
        fields = {
            "job_id": str(self.job_id),
            "task": self.task,
            "queue": self.queue,
            "attempt": self.attempt,
        }
        return _JobLogger(logging.getLogger(self._module), fields)

    @property
    def is_stopped(self) -> bool:
        """Whether this attempt was told to stop: cancelled, past its hard limit, or its worker is stopping.

        A coroutine receives a CancelledError. A non-async function runs in a thread, which cannot be
        interrupted, and its result is ignored: a long one checks this between its steps, and returns.
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
        """Retry this job, under the same id. Always raises, so that `raise ctx.retry(...)` reads well.

        *exc*: the error, by default the exception being handled; it is stored with the attempt, and is the
        job's error if its retries are exhausted. *countdown*: the delay, in seconds or as a timedelta; *eta*:
        the time, a time zone-aware datetime; without both, the task's options decide. *max_retries*: a new
        limit from now on; None is no limit. *args*, *kwargs*: a call that replaces the job's completely.

        Raises InvalidArgumentsError for a call that is invalid for the task, InvalidOptionError.
        """
        handled = sys.exception()
        if exc is None and not isinstance(handled, ControlFlow):
            exc = handled
        signal = Retry(exc, countdown=countdown, eta=eta, max_retries=max_retries, args=args, kwargs=kwargs)
        if signal.call is not None and self._check_call is not None:
            self._check_call(*signal.call)
        raise signal from exc

    def snooze(self, delay: Duration) -> NoReturn:
        """Run this job again after *delay*; this attempt does not count. Always raises. See `Snooze`."""
        raise Snooze(delay)

    def restart(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Have this job begin anew with another call of its task, under the same id. Always raises.

            raise ctx.restart(page + 1)

        Its steps and waits are forgotten, so that a job that goes on for ever does not store ever more;
        events that it has not taken stay. Attempts, retries and time limits count anew. Writes of
        ctx.transaction() are rolled back.

        Raises InvalidArgumentsError for a call that is invalid for the task.
        """
        if self._check_call is not None:
            self._check_call(args, kwargs)
        raise Restart(args, kwargs)

    def idempotency_key_for(self, step: str) -> str:
        """Return a key for one of several effects of this job, for services that deduplicate.

        The same in every attempt, and unique to this job and *step*. A UUID, which no service finds too long.
        Raises InvalidStepError.
        """
        check_step_name(step)
        return str(uuid5(self.job_id, step))

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """Open a block whose writes are committed together with this job's success, or not at all.

            async with ctx.transaction() as connection:
                await connection.execute(BOOK_INVOICE, amount)

        *connection* is an asyncpg connection to this database. The writes of the block become visible when
        the handler has returned and the job has succeeded: one commit for both. If the handler raises, is
        cancelled or exceeds a time limit, or the worker is lost, all of them are rolled back. Several blocks
        are one transaction; an exception rolls back the writes of its own block. The connection and its locks
        are held until the handler returns: do slow work before.

        Raises LeaseLostError, DatabaseUnavailableError, ContextError (in a non-async function, or while
        another asyncio task has a block open).
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
        """Call `fn(*args, **kwargs)`, or return its stored result if an earlier attempt has called it.

            receipt = await ctx.step("charge", charge, card, amount)

        The result is stored as JSON, by the function's own annotation, under the job and *name*; the return
        value is what a later attempt would return. If the function raises, nothing is stored, and it can be
        called again. A non-async function is called in a thread. If the worker is lost after the function
        returns and before its result is stored, the function runs again: pass it
        `ctx.idempotency_key_for(name)`. The result is kept as long as the job, even if the job is retried or
        redriven with other arguments.

        Raises InvalidStepError (a name that is empty, too long or already used in this attempt; a result that
        cannot be stored), LeaseLostError, DatabaseUnavailableError, ContextError (in a non-async function).
        """
        self._check_is_async("step")
        check_step_name(name)
        return self._services().step(name, fn, args, kwargs)

    async def sleep(self, name: str, duration: Duration) -> None:
        """Have the job wait for *duration* (seconds or a timedelta), and hold no slot meanwhile.

            await ctx.step("charge", charge, user)
            await ctx.sleep("cooling off", timedelta(days=3))

        The handler ends here by an exception that it must let pass, and begins anew when the time has come:
        its steps return their stored results, and this returns. So do everything that has an effect, and
        everything that may differ the next time, in a step. The time is stored when the wait begins, by the
        database's clock, under *name*, which is unique among the steps of the job; at most 194 characters.
        The attempt does not count; time limits and `max_retry_duration` count anew.

        Raises InvalidStepError, InvalidOptionError, LeaseLostError, DatabaseUnavailableError, ContextError
        (in a non-async function, behind ctx.transaction(), in another asyncio task than the handler's).
        """
        seconds = some_seconds("sleep: the duration", duration)
        self._check_waits("sleep", name)
        await self._services().wait(name, None, seconds)

    @overload
    def wait_for_event(
        self, name: str, type: type[R], *, step: str | None = None
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def wait_for_event(
        self, name: str, type: type[R], timeout: Duration | None, *, step: str | None = None
    ) -> Coroutine[Any, Any, R | None]: ...
    async def wait_for_event(
        self,
        name: str,
        type: Any,  # noqa: A002  # reads well at the call
        timeout: Duration | None = None,  # noqa: ASYNC109  # the job's, and not this call's
        *,
        step: str | None = None,
    ) -> Any:
        """Have the job wait for an event that `pgq.signal(job_id, name, value)` sends; return its value.

            answer = await ctx.wait_for_event("approved", Approval, timeout=timedelta(days=7))

        The value is validated as a *type*. None: *timeout* (seconds or a timedelta) was over before an event
        came; without one, the job waits for as long as it takes. Which of the two it was is stored, and does
        not change in later attempts. Events that came before are taken at once, oldest first, each by one
        wait. The job waits as in `sleep`. *step* is the name under which the outcome is stored, by default
        that of the event: a handler that waits for one event several times gives each wait its own.

        Raises what `sleep` raises, and CodecError for a value that is no *type*.
        """
        seconds = None if timeout is None else some_seconds("wait_for_event: timeout", timeout)
        self._check_waits("wait_for_event", name)
        if step is not None:
            self._check_waits("wait_for_event", step)
        expected = result_of(f"event {name!r}", type)
        value = await self._services().wait(name if step is None else step, name, seconds)
        if value is None:
            return None
        try:
            return expected.decode(value)
        except Exception as error:
            # Not chained: pydantic's says the value, which may be secret, and tracebacks are stored.
            raise CodecError(
                self.job_id, f"event {name!r}", describe_mismatch(error), now="send what the handler expects"
            ) from None

    async def start(self, name: str, canvas: Canvas[R], *, detached: bool = False) -> ChildHandle[R]:
        """Start a workflow, or return the one that an earlier attempt has started under *name*.

            first = await ctx.start("first", render.s(1))
            second = await ctx.start("second", chord([render.s(2), render.s(3)], merge.s()))
            page, pages = await ctx.wait(first, second)

        It is written in one transaction with the step that names it, so it is started once. *name* is unique
        among the steps of the job; at most 194 characters.

        When the job is cancelled or expires, its live jobs are cancelled with the reason `parent_ended`;
        if the job is redriven, it starts another one. A *detached* one goes on. When the job succeeds or
        fails, each goes on.

        Raises what Canvas.enqueue raises, InvalidStepError, LeaseLostError, ContextError (in a non-async
        function).
        """
        self._check_is_async("start")
        check_wait_name(name)
        return await self._services().start(name, canvas, is_detached=detached)

    @overload
    async def wait(self, child: ChildHandle[R], /) -> R: ...
    @overload
    async def wait(self, child: ChildHandle[R], other: ChildHandle[T], /) -> tuple[R, T]: ...
    @overload
    async def wait(self, /, *children: ChildHandle[Any]) -> Any: ...
    async def wait(self, /, *children: ChildHandle[Any]) -> Any:
        """Have the job wait until workflows that it has started have ended; return what they came to.

        The result of one, or a tuple of several, in their order. The job holds no slot meanwhile, as in
        `sleep`: a worker that runs one job at a time runs the children. If one of them did not succeed, its
        error is raised once all have ended: WorkflowFailed, JobCancelled or JobExpired. Later attempts get
        the same error, even if the child is redriven.

        Raises what `sleep` raises, and JobNotFoundError if a child was removed.
        """
        if not children or not all(isinstance(child, ChildHandle) for child in children):
            raise ContextError(f"task {self.task!r}: ctx.wait() takes what ctx.start() returned")
        for child in children:
            self._check_waits("wait", child.name)
        results = await self._services().join(children)
        return results[0] if len(children) == 1 else tuple(results)

    async def run(self, name: str, canvas: Canvas[R]) -> R:
        """Start a workflow and wait for what it comes to: `start` and `wait` in one.

            report = await ctx.run("report", chord([render.s(page) for page in pages], merge.s(user)))

        `return await ctx.run("rest", ...)` replaces the job by a workflow: what waits for the job waits for
        the workflow, and gets its result.
        """
        self._check_waits("run", name)
        return await self.wait(await self.start(name, canvas))

    async def add(self, name: str, /, *members: Canvas[Any]) -> None:
        """Add members to the group that this job is a member of, while it runs.

            for link in await ctx.step("links", find_links, page):
                await ctx.add(link, crawl.s(link))

        What waits for the group waits for them, too, and gets their results behind those of the members
        submitted, in the order of adding. They are written in one transaction with the step *name*, so they
        are added once, whatever becomes of this attempt; *name* is unique among the steps of the job. They
        can add members in turn. A group that needs k successes still needs k: a share of the members is
        counted when the group is enqueued.

        Raises what Canvas.enqueue raises, InvalidStepError, LeaseLostError, ContextError: no member of a
        group is running here (a plain job, a link of a chain that is not the last one of a member), the group
        is decided already (fail_fast, k successes), the job is being cancelled, several nodes wait for it, or
        this is a non-async function.
        """
        self._check_is_async("add")
        check_step_name(name)
        if not members:
            raise ContextError(f"task {self.task!r}: ctx.add() takes the members to add, after the name")
        await self._services().add(name, members)

    def progress(self, current: float, total: float | None = None, meta: Any = None) -> None:
        """Report the job's progress: *current* of *total*, with *meta* (at most 8 KiB as JSON).

        Returns at once, from any thread, however often it is called: the worker writes the latest report
        about twice per second, and before the job ends. Read it as `Job.progress`.

        Raises InvalidProgressError, LeaseLostError.
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

    def _check_waits(self, method: str, name: str) -> None:
        self._check_is_async(method)
        check_wait_name(name)
        attempt = running_attempt.get()
        if attempt is None or attempt.context is not self or not attempt.is_in_handler:
            raise ContextError(
                f"task {self.task!r}: ctx.{method}() ends the handler, so it works in the "
                "handler's own asyncio task alone, and this code runs in another one: await it without "
                "create_task, gather or a task group"
            )

    def __repr__(self) -> str:
        return f"<JobContext {self.task} {self.job_id}, attempt {self.attempt}>"


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds a job's fields to records, beside those that a call gives itself."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Return the message, and the arguments of the call with the fields."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class HasContext(Protocol):
    """An attempt, as far as its handler can reach it."""

    @property
    def context(self) -> JobContext[Any]:
        """The context of the attempt's job."""

    @property
    def is_in_handler(self) -> bool:
        """Whether what runs now is the asyncio task of the handler itself."""


# Holds the attempt and not its context: most handlers never ask for one, so none is created.
running_attempt: ContextVar[HasContext | None] = current_attempt


def current_job() -> JobContext[Any]:
    """Return the context of the job that is running this code. Raises RuntimeError outside of a job."""
    attempt = running_attempt.get()
    if attempt is None:
        raise RuntimeError("no job is running here: current_job() works inside a task's handler")
    return attempt.context
