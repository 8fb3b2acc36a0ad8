"""Runs single attempts in a child process of a worker, with the same executor that the worker has.

Plain functions have the child's main thread, where a signal interrupts what blocks; the event loop has
another thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import random
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import anyio

from pgqueue.database.pool import Database
from pgqueue.errors import SoftTimeLimitExceeded
from pgqueue.model.outcomes import Outcome, Succeeded
from pgqueue.options.levels import NO_OPTIONS, restore_options
from pgqueue.options.policy import Policy
from pgqueue.store import Claimed, Lane, Store
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.middleware import Middleware, overriding
from pgqueue.tasks.registry import Registry
from pgqueue.worker.attempt.attempt import CONCLUDING, RUNNING, RunningAttempt, Stop
from pgqueue.worker.attempt.deadlines import Deadlines
from pgqueue.worker.attempt.executor import Executor
from pgqueue.worker.attempt.soft_limit import call, soft_limit_exceeded
from pgqueue.worker.services.lifespan import Lifespan
from pgqueue.worker.services.progress import ProgressWriter
from pgqueue.worker.services.scope import Scopes

Returned = tuple[Any, BaseException | None]
"""What a function returned, or what it raised."""


class MainThread:
    """Runs functions in the main thread, for coroutines of another: signals interrupt what blocks there."""

    has_alarms = True
    """Whether signals interrupt what it runs. Not in other threads."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def serve(self) -> None:
        """Run the functions that are passed to `run`, for ever."""
        while True:
            self._calls.get()()

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run *function*, which does not raise, with the caller's context variables; return its value."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def answer(value: object) -> None:
            if not done.done():
                done.set_result(value)

        def run() -> None:
            loop.call_soon_threadsafe(answer, context.run(function))

        self._calls.put(run)
        return await done


class _Executor(Executor):
    """Runs plain functions in the main thread."""

    main_thread: MainThread

    async def _call_in_thread(
        self,
        attempt: RunningAttempt,
        policy: Policy,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        # The signal tells the handler.
        attempt.interrupt = _nothing
        function: Callable[[], Returned] = partial(call, handler, args, kwargs)
        if policy.soft_timeout is not None and self.main_thread.has_alarms:
            function = partial(_call_with_alarm, policy.soft_timeout, attempt, function)
        value, error = await self.main_thread.run(function)
        if error is not None:
            # Not isinstance: that asks the error, which may raise anything.
            attempt.is_soft_sent |= issubclass(type(error), SoftTimeLimitExceeded)
            raise error
        return value


def _nothing() -> None:
    return None


def _call_with_alarm(seconds: float, attempt: RunningAttempt, function: Callable[[], Returned]) -> Returned:
    """Call *function*, and raise SoftTimeLimitExceeded inside it after so many *seconds*."""
    outcome: Returned | None = None
    try:
        with _alarm(seconds, partial(soft_limit_exceeded, attempt)):
            outcome = function()
    except SoftTimeLimitExceeded as error:
        # It was raised before the handler began or after it ended.
        return outcome or (None, error)
    return outcome


@contextmanager
def _alarm(seconds: float, error: Callable[[], BaseException]) -> Iterator[None]:
    def ring(_signal: int, _frame: object) -> None:
        raise error()

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class AttemptRunner:
    """Runs attempts that a worker has claimed and sent to this process, one at a time."""

    def __init__(
        self,
        *,
        database: Database,
        store: Store,
        registry: Registry,
        codec: Codec | None,
        rng: random.Random,
        result_limit: int,
        main_thread: MainThread,
        middleware: Sequence[Middleware] = (),
        open_state: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        self._registry = registry
        self._attempts: set[RunningAttempt] = set()
        # The worker abandons an attempt by killing this process.
        self._deadlines = Deadlines(self._attempts, grace=0.0, abandon=lambda attempt: None)  # noqa: ARG005
        self._executor = _Executor(
            codec=codec,
            result_limit=result_limit,
            threads=1,
            rng=rng,
            watch=self._deadlines.watch,
            middleware=overriding(middleware, "run"),
        )
        self._executor.main_thread = main_thread
        self._progress = ProgressWriter(database, store)
        self._scopes = partial(Scopes, database, store, codec, result_limit, self._progress)
        self._open_state, self._middleware = open_state, middleware
        self._lifespan: Lifespan | None = None

    async def begin(self, worker: str) -> None:
        """Prepare for the first job, as a worker does. Raises WorkerLifespanError."""
        if self._lifespan is None:
            lifespan = Lifespan(worker, self._open_state, self._middleware)
            await lifespan.start(anyio.Event())
            self._lifespan = lifespan

    async def end(self, within: float) -> None:
        """Clean up behind the last job. Not while one runs: its process is to be killed."""
        if self._lifespan is not None and not self._attempts:
            await self._lifespan.end(within)

    async def serve(self) -> None:
        """Watch the soft limit and write progress, until cancelled."""
        await asyncio.gather(self._deadlines.run(), self._progress.run())

    async def run(
        self, job: dict[str, Any], started: Callable[[], Awaitable[None]]
    ) -> tuple[Outcome, bool | None]:
        """Run an attempt; return its outcome, and whether it is committed (None: still to be written)."""
        attempt = self._unpack(job)
        attempt.runner = asyncio.current_task()
        attempt.advance(RUNNING)
        self._attempts.add(attempt)
        try:
            await started()
            outcome = await self._run_apart(attempt)
            return await self._conclude(attempt, outcome)
        finally:
            self._attempts.discard(attempt)
            Deadlines.forget(attempt)
            if attempt.scope is not None:
                attempt.scope.close()

    async def _run_apart(self, attempt: RunningAttempt) -> Outcome:
        """Run an attempt in an asyncio task of its own, which its handler may cancel at any time."""
        outcomes: list[Outcome] = []

        async def run() -> None:
            outcomes.append(await self._executor.run(attempt))

        attempt.runner = asyncio.create_task(run())
        await asyncio.wait((attempt.runner,))
        # Kept apart: the result of a task that was cancelled as it ended is lost.
        [outcome] = outcomes
        return outcome

    def stop(self, reason: Stop) -> None:
        """Ask the handler to stop."""
        for attempt in self._attempts:
            attempt.stop(reason)

    def _unpack(self, job: dict[str, Any]) -> RunningAttempt:
        claimed = Claimed(UUID(job["claimed"][0]), *job["claimed"][1:])
        lane = Lane(*job["lane"])
        definition = self._registry.get(claimed.task)
        assert definition is not None
        definition.run_here()
        at_run_time = job["at_run_time"]
        self._registry.set_at_run_time({claimed.task: restore_options(at_run_time)} if at_run_time else {})
        stored = NO_OPTIONS if claimed.options is None else restore_options(claimed.options)
        policy = self._registry.policy(definition, lane.queue, stored)
        worker = job["worker"]
        # The hard limit is the worker's: it kills this process.
        policy = replace(policy, timeout=None)
        return RunningAttempt(
            claimed,
            definition,
            policy,
            lane,
            UUID(job["lease_id"]),
            worker,
            self._scopes(worker, lifespan=self._lifespan),
        )

    async def _conclude(self, attempt: RunningAttempt, outcome: Outcome) -> tuple[Outcome, bool | None]:
        """Write what the handler left to be written with its outcome, as the slots of a worker do."""
        scope = attempt.scope
        if scope is None:
            return outcome, None
        attempt.advance(CONCLUDING)
        await scope.flush()
        if not scope.has_transaction:
            return outcome, None
        if not isinstance(outcome, Succeeded):
            await scope.roll_back()
            return outcome, None
        try:
            return outcome, await scope.commit(outcome.result, is_current=lambda: True)
        except Exception as error:
            # The user's own constraints and triggers may raise anything.
            return self._executor.not_committed(attempt, error), None
