"""Sentry: the errors of jobs, each once, with the job that they are of; and traces, if you sample any.

    sentry_sdk.init(dsn=...)
    instrument(pgq)

A job that has failed permanently is one event: the exception and where it was raised, with the task as its
transaction. What the handler set on Sentry's scope (tags, the user, breadcrumbs) is on the event; each
attempt has a scope of its own. An error of which the handler told Sentry itself is not told of again.

An event is sent once the failure is committed. Frames have no variables by then. Arguments are sent if you
ask for it, as the option `redact` shows them. Nothing that Sentry's SDK raises fails a job.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID
from weakref import WeakSet

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.events.attempts import AttemptEnded, AttemptsEnded
from pgqueue.events.kinds import DeadLettersEntered, Event, JobsRescued
from pgqueue.integrations._sdk import is_child_process, logger, shielded
from pgqueue.model.checks import shown
from pgqueue.model.jobs import JobStatus
from pgqueue.model.raised import Raised
from pgqueue.options.checks import MAX_HEADER_LENGTH
from pgqueue.package import pip_install
from pgqueue.retry.control import Retry, control_flow_of
from pgqueue.tasks.context import JobContext, running_attempt
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.middleware import Middleware, Proceed, Write, WriteWorkflow
from pgqueue.tasks.redaction import REDACTED
from pgqueue.tasks.shown_errors import lost_with, shown_exception, unknown_task
from pgqueue.tasks.signature import Signature
from pgqueue.tasks.workflow_handle import WorkflowHandle

try:
    import sentry_sdk
    from sentry_sdk.consts import OP, SPANSTATUS
    from sentry_sdk.integrations.logging import ignore_logger
    from sentry_sdk.scope import Scope, use_isolation_scope
    from sentry_sdk.tracing import TransactionSource
    from sentry_sdk.utils import event_from_exception
except ImportError as error:
    raise ImportError(f"pgqueue.integrations.sentry needs sentry-sdk: {pip_install('sentry')}") from error

_HEADERS: Final = ("sentry-trace", "baggage")
_MAX_KEPT: Final = 1000
"""Scopes of failed attempts whose outcomes are not committed yet."""
_MAX_TOLD: Final = 5
_FLUSH_WITHIN: Final = 2.0
"""Seconds in which a child process sends what it has: it may be killed after each attempt."""

_instrumented: Final[WeakSet[PgQueue]] = WeakSet()


def instrument(pgq: PgQueue, *, retries: bool = False, arguments: bool = False) -> None:
    """Tell Sentry of the jobs of *pgq* that fail in workers of this process.

    Call it once, before you make workers and after `sentry_sdk.init`; where tasks run in child processes, in
    the module that these import. *retries*: tell of errors that are retried as well, as warnings. Errors that
    `throws` names are never told of. *arguments*: send those of the job, too, redacted as in logs.

    Sentry's logging integration passes over the logger "pgqueue.jobs" from then on, which tells of the same
    errors. Raises ConfigurationError.
    """
    if not isinstance(pgq, PgQueue):
        raise ConfigurationError(f"instrument: it must be a PgQueue, got {shown(pgq)}")
    for name, value in (("retries", retries), ("arguments", arguments)):
        if not isinstance(value, bool):
            raise ConfigurationError(f"instrument: {name} must be True or False, got {shown(value)}")
    if pgq in _instrumented:
        raise ConfigurationError("instrument: this PgQueue is instrumented already; call it once")
    tracking = ErrorTracking(pgq, retries=retries, arguments=arguments)
    pgq.middleware(tracking)
    pgq.observe(tracking.observe, AttemptsEnded, JobsRescued, DeadLettersEntered)
    ignore_logger("pgqueue.jobs")
    _instrumented.add(pgq)


@dataclass(slots=True)
class _Left:
    """What an attempt that raised has left for its event."""

    scope: Scope
    trace: Mapping[str, Any]
    told: deque[object] = field(default_factory=lambda: deque(maxlen=_MAX_TOLD))
    """The last errors that the handler has told of itself. Kept no longer than it runs."""
    is_told: bool = False
    """Whether what it raised is one of them."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """The job that an event is of."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    worker: str | None
    reason: str | None = None


class ErrorTracking(Middleware):
    """What `instrument` puts around enqueues and attempts, and what it observes."""

    def __init__(self, pgq: PgQueue, *, retries: bool, arguments: bool) -> None:
        self._registry = pgq.registry
        self._retries = retries
        self._sends_arguments = arguments
        self._left: OrderedDict[tuple[UUID, int], _Left] = OrderedDict()

    # Enqueues and attempts

    async def enqueue(self, calls: Iterable[Signature[Any]], proceed: Write) -> list[JobHandle[Any]]:
        """Have jobs continue the trace that they are enqueued in."""
        with _publishing():
            return await proceed(map(_stamp, calls))

    async def workflow(self, proceed: WriteWorkflow) -> WorkflowHandle[Any]:
        """Have the jobs of a workflow continue the trace that it is enqueued in."""
        with _publishing():
            return await proceed(_trace_headers())

    async def run(self, ctx: JobContext[Any], proceed: Proceed) -> Any:
        """Run an attempt in a scope of its own."""
        facts = _Facts(ctx.job_id, ctx.task, ctx.queue, ctx.attempt, ctx.worker)
        is_cancelled = False
        with ExitStack() as within:
            left: _Left | None = None
            with shielded("preparing the scope of an attempt"):
                left = self._enter(within, ctx, facts)
            try:
                return await proceed()
            except BaseException as error:
                is_cancelled = isinstance(error, asyncio.CancelledError)
                with shielded("keeping the scope of an attempt"):
                    self._keep(ctx, left, error)
                raise
            finally:
                within.close()
                if left is not None:
                    left.told.clear()
                if not is_cancelled and is_child_process():
                    with shielded("sending the events of a child process"):
                        await asyncio.to_thread(sentry_sdk.flush, _FLUSH_WITHIN)

    def _enter(self, within: ExitStack, ctx: JobContext[Any], facts: _Facts) -> _Left:
        scope = within.enter_context(sentry_sdk.isolation_scope())
        scope.clear_breadcrumbs()
        _describe(scope, facts, self._arguments(ctx))
        left = _Left(scope, {})
        redacts = self._registry.redacts(ctx.task, ctx.queue)

        def look(event: Any, hint: dict[str, Any]) -> Any:
            if (exc_info := hint.get("exc_info")) is not None:
                left.told.append(exc_info[1])
            return _without_variables(event) if redacts else event

        scope.add_event_processor(look)
        headers = {name: value for name in _HEADERS if isinstance(value := ctx.headers.get(name), str)}
        transaction = sentry_sdk.continue_trace(
            headers,
            op=OP.QUEUE_PROCESS,
            name=ctx.task,
            source=TransactionSource.TASK,
            origin="auto.queue.pgqueue",
        )
        transaction.set_status(SPANSTATUS.OK)
        transaction.set_data("messaging.system", "pgqueue")
        transaction.set_data("messaging.destination.name", ctx.queue)
        transaction.set_data("messaging.message.id", str(ctx.job_id))
        transaction.set_data("messaging.message.retry.count", ctx.retries)
        within.enter_context(sentry_sdk.start_transaction(transaction))
        return left

    def _arguments(self, ctx: JobContext[Any]) -> Any:
        attempt: Any = running_attempt.get()
        if attempt is None or not self._sends_arguments:
            return None
        try:
            stored = json.loads(attempt.claimed.arguments)
        except ValueError:
            # What a codec has made of them.
            return REDACTED
        return self._registry.redact(ctx.task, ctx.queue, stored)

    def _keep(self, ctx: JobContext[Any], left: _Left | None, error: BaseException) -> None:
        said = control_flow_of(error)
        if left is None or (said is None and isinstance(error, asyncio.CancelledError) and ctx.is_stopped):
            return
        raised = said.exc if isinstance(said, Retry) else error
        left.is_told = any(each is raised for each in left.told)
        left.trace = sentry_sdk.get_current_scope().get_trace_context()
        if said is None and (span := sentry_sdk.get_current_span()) is not None:
            span.set_status(SPANSTATUS.INTERNAL_ERROR)
        self._left[ctx.job_id, ctx.attempt] = left
        while len(self._left) > _MAX_KEPT:
            self._left.popitem(last=False)

    # What is committed

    def observe(self, event: Event) -> None:
        """Tell Sentry of what has failed, as an observer."""
        match event:
            case AttemptsEnded() if not event.is_success:
                for ended in event.attempts:
                    self._tell_ended(ended)
            case JobsRescued(worker=worker):
                for job in event.jobs:
                    if job.status is JobStatus.FAILED:
                        facts = _Facts(job.job_id, job.task, job.queue, job.attempt, worker, "worker_lost")
                        self._tell(facts, lost_with(worker))
            case DeadLettersEntered(letters=letters):
                for each in letters:
                    if each.reason == "unknown_task":
                        facts = _Facts(each.job_id, each.task, each.queue, each.attempt, None, each.reason)
                        self._tell(facts, unknown_task(each.task))
            case _:
                pass

    def _tell_ended(self, ended: AttemptEnded) -> None:
        left = self._left.pop((ended.job_id, ended.attempt), None)
        has_failed = ended.status is JobStatus.FAILED and ended.reason != "expected"
        is_retried = ended.status is JobStatus.SCHEDULED and ended.error is not None
        if not has_failed and not (is_retried and self._retries):
            return
        if left is not None and left.is_told:
            return
        with shielded("reading the error of a job"):
            redacts = self._registry.redacts(ended.task, ended.queue)
            raised = shown_exception(ended, redacts=redacts)
            if raised is not None:
                facts = _Facts(
                    ended.job_id, ended.task, ended.queue, ended.attempt, ended.worker, ended.reason
                )
                self._tell(facts, raised, left, level="error" if has_failed else "warning")

    def _tell(self, facts: _Facts, raised: Raised, left: _Left | None = None, level: str = "error") -> None:
        # In an empty context: this one is the worker's, and Sentry would keep the error there, to pass over
        # the next one if it is the same.
        with shielded("telling of the error of a job"):
            Context().run(_capture, facts, raised, left, level)


def _capture(facts: _Facts, raised: Raised, left: _Left | None, level: str) -> None:
    event, hint = event_from_exception(
        tuple(raised),  # type: ignore[arg-type]  # a tuple as sys.exc_info() has it
        client_options=sentry_sdk.get_client().options,
        mechanism={"type": "pgqueue", "handled": False},
    )
    event["level"] = level  # type: ignore[typeddict-item]  # one of theirs
    if left is not None and left.trace:
        event["contexts"] = {"trace": dict(left.trace)}
    if raised.traceback is None:
        # Without places, the errors of all tasks would be one.
        event["fingerprint"] = ["{{ default }}", facts.task]
    with ExitStack() as within:
        if left is None:
            scope = within.enter_context(sentry_sdk.isolation_scope())
            _describe(scope, facts, None)
        else:
            scope = within.enter_context(_used(left.scope))
        if facts.reason is not None:
            event["tags"] = {"pgqueue.reason": facts.reason}
        sentry_sdk.capture_event(event, hint)


@contextmanager
def _used(scope: Scope) -> Iterator[Scope]:
    with use_isolation_scope(scope):
        yield scope


def _describe(scope: Scope, facts: _Facts, arguments: Any) -> None:
    scope.set_transaction_name(facts.task, source=TransactionSource.TASK)
    scope.set_tag("pgqueue.task", facts.task)
    scope.set_tag("pgqueue.queue", facts.queue)
    job = {
        "job_id": str(facts.job_id),
        "task": facts.task,
        "queue": facts.queue,
        "attempt": facts.attempt,
        "worker": facts.worker,
    }
    scope.set_context("pgqueue", job if arguments is None else {**job, "arguments": arguments})


@contextmanager
def _publishing() -> Iterator[None]:
    with ExitStack() as within:
        with shielded("tracing an enqueue"):
            within.enter_context(sentry_sdk.start_span(op=OP.QUEUE_PUBLISH, name="enqueue"))
        yield


def _trace_headers() -> dict[str, str]:
    try:
        found = {"sentry-trace": sentry_sdk.get_traceparent(), "baggage": sentry_sdk.get_baggage()}
    except Exception:
        logger.warning("the trace of an enqueue could not be read; going on without", exc_info=True)
        return {}
    return {name: value for name, value in found.items() if value and len(value) <= MAX_HEADER_LENGTH}


def _stamp(call: Signature[Any]) -> Signature[Any]:
    try:
        own, headers = call.options.get("headers", {}), _trace_headers()
        if "sentry-trace" in own or not headers:
            return call
        if own.get("baggage") and "baggage" in headers:
            headers["baggage"] = f"{own['baggage']},{headers['baggage']}"
        return call.with_headers(headers)
    except Exception:
        # Whatever is wrong with the call, its enqueue says it; and headers may have no room.
        return call


def _without_variables(event: Any) -> Any:
    for error in (event.get("exception") or {}).get("values") or ():
        for frame in (error.get("stacktrace") or {}).get("frames") or ():
            frame.pop("vars", None)
    return event
