"""Runs one attempt and returns its outcome. Knows nothing of the database.

What an error leads to is decided in `pgqueue.retry.decision`; this module only says what it was. It takes a
handler's first step by hand, because what is put between a handler and its task (for soft limits) costs as
much as the rest of the way, and most handlers never need it. And it takes that step by `next()`, for which a
coroutine that ends raises no StopIteration where it returns None: that exception alone took 0.8 of 11
microseconds.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final
from uuid import UUID

import anyio.to_thread

from pgqueue.errors import DatabaseUnavailableError, SoftTimeLimitExceeded
from pgqueue.model.error_groups import consists_of, contains
from pgqueue.model.job_error import JobError, describe
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Outcome, Released, Succeeded
from pgqueue.options.policy import Policy
from pgqueue.retry.decision import decide, decide_after
from pgqueue.retry.undecodable import met_undecodable
from pgqueue.tasks.codec import Codec, encode_document
from pgqueue.tasks.context import running_attempt
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.middleware import Middleware, Proceed, around_run
from pgqueue.tasks.refusals import TakesInputsError, UndecodableError
from pgqueue.tasks.wrapping import is_awaitable, is_deferred
from pgqueue.worker.attempt.attempt import TIMEOUT, ProcessDiedError, RunningAttempt, Stop
from pgqueue.worker.attempt.deadlines import NEAR, Deadlines
from pgqueue.worker.attempt.frames import let_go
from pgqueue.worker.attempt.inputs import Inputs, InvalidInputsError
from pgqueue.worker.attempt.soft_limit import PlainCall, ThreadCall, resume, soft_limit_exceeded

_ENDED: Final = object()
_READY: Final = frozenset({str, int, float, bool, bytes, dict, list, tuple, set, datetime, UUID})
"""The types of most results: none of them is awaited."""
_MAX_AWAITS: Final = 10
"""How often what an awaitable returned may be an awaitable itself."""

RunIsolated = Callable[
    [RunningAttempt, Callable[[], None]], Awaitable[tuple[Outcome, bool | None] | JobError]
]
"""Runs an attempt in a child process. Returns its outcome and whether that is committed already, or the error
because of which the child could not run it. Calls its second argument when the handler starts."""


class Executor:
    """Runs attempts, each in the asyncio task that calls `run`.

    *watch* is called with an attempt that starts with a limit so near that its timer must be set at once.
    *run_isolated* runs one in a child process; None: this executor has no child processes. *inputs*: reads
    what jobs of workflows take; None: what it runs has all its arguments.
    """

    def __init__(
        self,
        *,
        codec: Codec | None,
        result_limit: int,
        threads: int,
        rng: random.Random,
        watch: Callable[[RunningAttempt], None],
        run_isolated: RunIsolated | None = None,
        inputs: Inputs | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._inputs = inputs
        self._middleware = middleware
        self._run_isolated = run_isolated
        self._watch = watch
        self._codec = codec
        self._result_limit = result_limit
        self._rng = rng
        # A thread whose attempt was stopped goes on until its function returns; its token is free at once.
        self._threads = anyio.CapacityLimiter(threads)
        self._abandoned: list[PlainCall] = []

    @property
    def abandoned_threads(self) -> int:
        """The number of threads whose handlers run on although their attempts have ended."""
        return sum(map(_is_running, self._abandoned))

    async def run(self, attempt: RunningAttempt) -> Outcome:  # noqa: C901, PLR0911, PLR0912  # the path of every job, kept whole
        """Run the handler once. Whatever it raises becomes an outcome; this raises nothing.

        A cancellation is the worker's if the attempt was told to stop. Any other came from within: a failed
        attempt. How often the asyncio task was cancelled says nothing, because handlers cancel it, too.
        """
        claimed, definition, policy = attempt.claimed, attempt.definition, attempt.policy
        assert definition is not None
        assert policy is not None
        if attempt.is_stopped:
            return self._stopped(attempt)
        stored = claimed.arguments
        try:
            if self._codec is not None:
                stored = self._codec.decode(stored)
            args, kwargs = definition.arguments.decode(stored)
        except TakesInputsError as takes:
            call = await self._read_inputs(attempt, definition, stored, takes.inputs)
            if not isinstance(call, tuple):
                return call
            args, kwargs = call
        except BaseException as error:
            # Codec and validators are the user's: they may raise anything, even SystemExit.
            return self._undecodable(attempt, error)
        if definition.takes_context:
            args = (attempt.context, *args)
        # One attempt, one asyncio task: the context variable ends with it.
        running_attempt.set(attempt)
        attempt.started = time.monotonic()
        if policy.first_limit <= NEAR:
            self._watch(attempt)
        try:
            if definition.is_async:
                # The first step by hand: a handler that ends with it needs no driver. By next(), for
                # which nothing is raised where a coroutine returns None: a StopIteration is a microsecond.
                returned: list[Any] = []
                coroutine = _keep(definition.handler(*args, **kwargs), returned)
                waiting_for = next(coroutine.__await__(), _ENDED)
                if waiting_for is not _ENDED:
                    await resume(coroutine, waiting_for, attempt)
                [value] = returned
            elif definition.is_isolated:
                return await self._call_in_process(attempt, policy)
            elif definition.is_wrapped:
                value = await self._settle(
                    attempt, policy, self._call_wrapped(attempt, policy, definition, args, kwargs)
                )
            else:
                value = await self._call_in_thread(attempt, policy, definition.handler, args, kwargs)
            if value is not None and type(value) not in _READY and is_deferred(value):
                value = await self._settle(attempt, policy, value)
        except BaseException as error:
            # BaseException: SystemExit and KeyboardInterrupt raised by a handler would end the loop.
            # This frame cannot be cleared, and others refer to it.
            args, kwargs, waiting_for = (), {}, None
            return self._after_error(attempt, policy, error)
        if attempt.stop_reason is TIMEOUT:
            # It caught the cancellation and returned. Too late is too late.
            return self._timed_out(attempt, policy)
        return (
            Succeeded(claimed.id, None)
            if policy.ignore_result
            else self._succeeded(attempt, definition, value)
        )

    async def _read_inputs(
        self, attempt: RunningAttempt, definition: TaskDefinition, document: str, inputs: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | Outcome:
        """Return the call of a job that takes its first argument from those before it, or an outcome."""
        assert self._inputs is not None
        try:
            whole, args, kwargs = await self._inputs.call(attempt.claimed.id, definition, document, inputs)
            if definition.is_isolated:
                # Its process has no connection for this.
                attempt.claimed = attempt.claimed._replace(arguments=encode_document(self._codec, whole))
        except InvalidInputsError as error:
            return self._failed(attempt, "invalid_inputs", JobError("InvalidInputs", str(error)))
        except DatabaseUnavailableError:
            return Released(attempt.claimed.id)
        except BaseException as error:
            # The worker's cancellation is not about the arguments.
            return self._stopped(attempt) if attempt.is_stopped else self._undecodable(attempt, error)
        return self._stopped(attempt) if attempt.is_stopped else (args, kwargs)

    def overrun(self, attempt: RunningAttempt) -> Outcome:
        """Return the outcome of an attempt that has reached its hard limit."""
        assert attempt.policy is not None
        return self._timed_out(attempt, attempt.policy)

    def abandon(self, attempt: RunningAttempt) -> Outcome:
        """Return the outcome of an attempt that does not end, by the reason for which it was stopped."""
        if attempt.stop_reason is Stop.TIMEOUT:
            return self.overrun(attempt)
        return self._stopped(attempt)

    def not_committed(self, attempt: RunningAttempt, error: Exception) -> Outcome:
        """Return the outcome of an attempt whose handler returned and whose transaction was not committed."""
        assert attempt.policy is not None
        try:
            return self._decide(attempt, attempt.policy, error)
        except BaseException as broken:
            return self.undecided(attempt, broken, error)

    async def _call_in_process(self, attempt: RunningAttempt, policy: Policy) -> Outcome:
        """Have a child process run the attempt. Its time starts when the handler starts there."""
        assert self._run_isolated is not None
        attempt.interrupt = _nothing
        attempt.started = math.inf
        Deadlines.forget(attempt)

        def started() -> None:
            attempt.started = time.monotonic()
            self._watch(attempt)

        try:
            reply = await self._run_isolated(attempt, started)
        finally:
            if attempt.started == math.inf:
                attempt.started = 0.0
        if attempt.stop_reason is Stop.TIMEOUT:
            return self._timed_out(attempt, policy)
        if isinstance(reply, JobError):
            return self._retry_or_fail(attempt, policy, "exception", reply)
        outcome, attempt.is_kept = reply
        return outcome

    async def _call_in_thread(
        self,
        attempt: RunningAttempt,
        policy: Policy,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        if policy.soft_timeout is None:
            function = PlainCall(handler, args, kwargs)
        else:
            function = thread_call = ThreadCall(handler, args, kwargs)
            attempt.interrupt = thread_call.interrupt
        try:
            value, error = await anyio.to_thread.run_sync(
                function, abandon_on_cancel=True, limiter=self._threads
            )
        except BaseException:
            if function.is_running:
                self._abandoned = [*filter(_is_running, self._abandoned), function]
            raise
        if error is not None:
            raise error
        return value

    async def _call_wrapped(
        self,
        attempt: RunningAttempt,
        policy: Policy,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a handler with what is around it: the middleware first, then its dependencies."""

        async def handle(**values: Any) -> Any:
            named = {**kwargs, **values}
            if definition.is_coroutine:
                return await definition.handler(*args, **named)
            try:
                value = await self._call_in_thread(attempt, policy, definition.handler, args, named)
            finally:
                attempt.interrupt = None
            # Here, and not where it is returned to: dependencies are closed by then.
            return await self._settle(attempt, policy, value) if is_deferred(value) else value

        call: Proceed = handle
        if definition.dependencies:
            call = partial(definition.dependencies.call, handle, attempt.context)
        return await around_run(self._middleware, attempt.context, call)

    async def _settle(self, attempt: RunningAttempt, policy: Policy, value: Any) -> Any:
        """Return what *value*, which the handler returned, comes to: the handler may not have begun yet.

        A wrapper of a coroutine function returns its coroutine. Awaited here, it has the soft limit of any
        coroutine.
        """
        for _ in range(_MAX_AWAITS):
            if isinstance(value, AsyncGeneratorType) or (
                policy.ignore_result and isinstance(value, GeneratorType) and not is_awaitable(value)
            ):
                raise TypeError("the handler returned a generator, which did not run; return a list")
            if not is_awaitable(value):
                return value
            attempt.interrupt = None
            if attempt.is_soft_sent:
                # It passed while the function ran in its thread, and had ended.
                if isinstance(value, CoroutineType):
                    value.close()
                raise soft_limit_exceeded(attempt)
            returned: list[Any] = []
            coroutine = _keep(value, returned)
            waiting_for = next(coroutine.__await__(), _ENDED)
            if waiting_for is not _ENDED:
                await resume(coroutine, waiting_for, attempt)
            [value] = returned
        raise TypeError(f"the handler returned an awaitable, {_MAX_AWAITS} times over")

    def _succeeded(self, attempt: RunningAttempt, definition: TaskDefinition, value: Any) -> Outcome:
        try:
            document = definition.result.encode(value, limit=self._result_limit)
            stored = encode_document(self._codec, document)
        except BaseException as error:
            # Codec and serializers are the user's: they may raise anything, even SystemExit.
            return self._failed(
                attempt,
                "unstorable_result",
                replace(describe(error), type="UnstorableResult", traceback=None),
            )
        return Succeeded(attempt.claimed.id, stored)

    def _after_error(self, attempt: RunningAttempt, policy: Policy, error: BaseException) -> Outcome:
        try:
            return self._judge(attempt, policy, error)
        except BaseException as broken:
            # Deciding asks classes and functions of the user's: they may raise anything, even SystemExit.
            return self.undecided(attempt, broken, error)
        finally:
            attempt.raised = let_go(error)
            attempt.forget_context()

    def _judge(self, attempt: RunningAttempt, policy: Policy, error: BaseException) -> Outcome:
        if attempt.stop_reason is Stop.TIMEOUT:
            return self._timed_out(attempt, policy)
        if attempt.stop_reason is not None and consists_of(error, asyncio.CancelledError):
            return self._stopped(attempt)
        if type(error) is ProcessDiedError:
            return self._retry_or_fail(attempt, policy, "process_died", JobError("ProcessDied", str(error)))
        if attempt.is_soft_sent and (
            contains(error, SoftTimeLimitExceeded) or consists_of(error, asyncio.CancelledError)
        ):
            return self._soft_timed_out(attempt, policy, error)
        return self._decide(attempt, policy, error)

    def undecided(
        self, attempt: RunningAttempt, broken: BaseException, error: BaseException | None = None
    ) -> Outcome:
        """Return the outcome of an attempt of which it cannot be decided what follows it.

        *broken* was raised by the code that was asked, *error* is what the handler had raised. The job has
        failed for good: its options may have ruled a retry out.
        """
        asked = describe(broken)
        told = asked if error is None else describe(error)
        message = f"deciding what follows the attempt raised {asked.type}: {asked.message}"
        if error is not None:
            message += f"; the handler had raised {told.type}: {told.message}"
        return self._failed(attempt, "undecided", JobError("Undecided", message, told.traceback))

    def _decide(self, attempt: RunningAttempt, policy: Policy, error: BaseException) -> Outcome:
        encode = partial(self._encode_call, attempt)
        return decide(attempt.so_far, policy.retry, error, info=attempt.context, encode=encode, rng=self._rng)

    def _encode_call(self, attempt: RunningAttempt, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        assert attempt.definition is not None
        document = attempt.definition.arguments.encode(args, kwargs, limit=self._result_limit)
        return encode_document(self._codec, document)

    def _soft_timed_out(self, attempt: RunningAttempt, policy: Policy, error: BaseException) -> Outcome:
        message = f"the handler exceeded its soft time limit of {policy.soft_timeout:g} s"
        described = replace(describe(error), message=message)
        if policy.retry_on_timeout:
            return self._retry_or_fail(attempt, policy, "soft_timeout", described)
        return self._failed(attempt, "soft_timeout", described)

    def _timed_out(self, attempt: RunningAttempt, policy: Policy) -> Outcome:
        message = f"the attempt exceeded its hard time limit of {policy.timeout:g} s"
        described = JobError("HardTimeout", message)
        if policy.retry_on_timeout:
            return self._retry_or_fail(attempt, policy, "hard_timeout", described)
        return self._failed(attempt, "hard_timeout", described)

    def _stopped(self, attempt: RunningAttempt) -> Outcome:
        if attempt.stop_reason is Stop.CANCEL:
            return Ended(attempt.claimed.id, JobStatus.CANCELLED, "cancelled", None)
        if attempt.started and attempt.policy is not None and not attempt.policy.acks_late:
            message = "the worker stopped while it ran this job, which runs at most once (acks_late=False)"
            return self._failed(attempt, "worker_lost", JobError("WorkerLost", message))
        return Released(attempt.claimed.id)

    def _retry_or_fail(
        self, attempt: RunningAttempt, policy: Policy, reason: str, error: JobError
    ) -> Outcome:
        return decide_after(attempt.so_far, policy.retry, reason, error, self._rng)

    def _undecodable(self, attempt: RunningAttempt, error: BaseException) -> Outcome:
        told = describe(error)
        what = told.message if type(error) is UndecodableError else f"{told.type}: {told.message}"
        return self.undecodable(attempt, f"the stored arguments do not match the task: {what}")

    def undecodable(self, attempt: RunningAttempt, message: str) -> Outcome:
        """Return the outcome of an attempt whose job this version of the code cannot decode."""
        return met_undecodable(attempt.claimed.id, JobError("Undecodable", message))

    def _failed(self, attempt: RunningAttempt, reason: str, error: JobError) -> Outcome:
        return Ended(attempt.claimed.id, JobStatus.FAILED, reason, error)


async def _keep(coroutine: Awaitable[Any], returned: list[Any]) -> None:
    returned.append(await coroutine)


_is_running: Final = attrgetter("is_running")


def _nothing() -> None:
    return None
