"""OpenTelemetry: traces from whoever enqueues a job to its attempts, and metrics.

    instrument(pgq)

By the conventions for messaging systems. An enqueue is a span of the kind producer ("enqueue mail"), and its
context travels in the job's headers as the application's propagators write it (`traceparent`, `baggage`).
Each attempt is a span of the kind consumer ("process mail") that links to it, and each durable step that runs
is a span below that.

Only opentelemetry-api is needed; without an SDK nothing is recorded. Nothing that an SDK raises, and nothing
that stands in a header, fails a job or an enqueue: that part is not traced then. No span has arguments or
results. Where arguments are redacted, errors are shown as the logs show them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal, cast
from weakref import WeakSet

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.integrations._sdk import is_child_process, logger, shielded
from pgqueue.model.checks import shown
from pgqueue.options.checks import MAX_HEADER_LENGTH
from pgqueue.options.levels import Options
from pgqueue.package import pip_install
from pgqueue.retry.control import ControlFlow, Reject, Retry, control_flow_of
from pgqueue.tasks.around import around_step, workflow_headers
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.middleware import Middleware, Proceed, Write, WriteWorkflow
from pgqueue.tasks.shown_errors import described
from pgqueue.tasks.signature import Signature
from pgqueue.tasks.workflow_handle import WorkflowHandle

try:
    from opentelemetry import context as contexts
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError(
        f"pgqueue.integrations.opentelemetry needs opentelemetry-api: {pip_install('opentelemetry')}"
    ) from error

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the conventions that names are of."""
_SYSTEM: Final = {"messaging.system": "pgqueue"}
_SEND: Final = {**_SYSTEM, "messaging.operation.name": "enqueue", "messaging.operation.type": "send"}
_PROCESS: Final = {**_SYSTEM, "messaging.operation.name": "process", "messaging.operation.type": "process"}
_QUEUE: Final = "messaging.destination.name"
_TASK: Final = "messaging.pgqueue.task.name"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_FLUSH_WITHIN: Final = 2000
"""Milliseconds in which a child process exports its spans: it may be killed after each attempt."""

Relation = Literal["link", "child"]
"""How the span of an attempt belongs to the one of its enqueue: in a trace of its own, or in the same."""

_instrumented: Final[WeakSet[PgQueue]] = WeakSet()


def instrument(
    pgq: PgQueue,
    *,
    attempts: Relation = "link",
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Trace what *pgq* enqueues and runs in this process, and measure it.

    Call it once, before you make workers; where tasks run in child processes, in the module that these
    import. *attempts*: "link" gives each attempt a trace of its own that links to the enqueue, as the
    conventions advise for work that comes later; "child" puts it into the trace of the enqueue, beside the
    link. *tracer_provider*, *meter_provider*: by default the global ones. Raises ConfigurationError.
    """
    if not isinstance(pgq, PgQueue):
        raise ConfigurationError(f"instrument: it must be a PgQueue, got {shown(pgq)}")
    if attempts not in ("link", "child"):
        raise ConfigurationError(f"instrument: attempts must be 'link' or 'child', got {shown(attempts)}")
    if pgq in _instrumented:
        raise ConfigurationError("instrument: this PgQueue is instrumented already; call it once")
    pgq.middleware(Tracing(pgq, attempts, tracer_provider, meter_provider))
    _instrumented.add(pgq)


class Tracing(Middleware):
    """What `instrument` puts around enqueues and attempts."""

    def __init__(
        self,
        pgq: PgQueue,
        attempts: Relation,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._registry = pgq.registry
        self._attempts = attempts
        self._provider = tracer_provider
        self._tracer = trace.get_tracer("pgqueue", None, tracer_provider, SCHEMA)
        meter = get_meter("pgqueue", "", meter_provider, SCHEMA)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Jobs that were to be enqueued."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Jobs that handlers were called for."
        )
        self._enqueue_duration = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of enqueues.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._process_duration = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Duration of attempts.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )

    # Enqueues

    async def enqueue(self, calls: Iterable[Signature[Any]], proceed: Write) -> list[JobHandle[Any]]:
        """Trace an enqueue, and give its context to the jobs."""
        with self._sending() as sending:
            handles = await proceed(map(sending.stamp, calls))
            if len(handles) == 1:
                sending.span.set_attribute("messaging.message.id", str(handles[0].id))
            else:
                sending.span.set_attribute("messaging.batch.message_count", len(handles))
            return handles

    async def workflow(self, proceed: WriteWorkflow) -> WorkflowHandle[Any]:
        """Trace the enqueue of a workflow, and give its context to all of its jobs."""
        with self._sending() as sending:
            handle = await proceed(sending.headers)
            sending.span.set_attribute("messaging.message.conversation_id", str(handle.id))
            return handle

    @contextmanager
    def _sending(self) -> Iterator[_Sending]:
        began = time.monotonic()
        span = self._start("enqueue", SpanKind.PRODUCER, _SEND)
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            sending = _Sending(span, self._registry)
            failure: dict[str, str] = {}
            try:
                yield sending
            except BaseException as error:
                # Without its message, which may quote arguments: the caller gets the error itself.
                failure = _mark_failed(span, type(error))
                raise
            finally:
                with shielded("measuring an enqueue"):
                    self._measure_sent(sending, time.monotonic() - began, failure)
                _end(span)

    def _measure_sent(self, sending: _Sending, seconds: float, failure: Mapping[str, str]) -> None:
        queues = sending.queues
        target = {_QUEUE: next(iter(queues))} if len(queues) == 1 else {}
        if target:
            sending.span.set_attributes(target)
            sending.span.update_name(f"enqueue {target[_QUEUE]}")
        self._enqueue_duration.record(seconds, {**_SEND, **target, **failure})
        for queue, count in queues.items():
            self._sent.add(count, {**_SEND, _QUEUE: queue, **failure})

    # Attempts

    async def run(self, ctx: JobContext[Any], proceed: Proceed) -> Any:
        """Trace an attempt, in the context that its job was enqueued with."""
        measured = {**_PROCESS, _QUEUE: ctx.queue, _TASK: ctx.task}
        around, links = self._context_of(ctx)
        attributes = {
            **measured,
            "messaging.message.id": str(ctx.job_id),
            "messaging.client.id": ctx.worker,
            "messaging.pgqueue.attempt": ctx.attempt,
        }
        span = self._start(f"process {ctx.queue}", SpanKind.CONSUMER, attributes, around, links)
        token = contexts.attach(trace.set_span_in_context(span, around))
        steps = around_step.set(self._step)
        workflows = workflow_headers.set(_injected())
        began = time.monotonic()
        failure: dict[str, str] = {}
        is_cancelled = False
        try:
            return await proceed()
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            failure = self._failed(span, ctx, error)
            raise
        finally:
            workflow_headers.reset(workflows)
            around_step.reset(steps)
            contexts.detach(token)
            with shielded("measuring an attempt"):
                self._consumed.add(1, {**measured, **failure})
                self._process_duration.record(time.monotonic() - began, {**measured, **failure})
            _end(span)
            if not is_cancelled and is_child_process():
                await self._flush()

    async def _step(self, name: str, proceed: Callable[[], Awaitable[Any]]) -> Any:
        span = self._start(f"step {name}", SpanKind.INTERNAL, {"messaging.pgqueue.step.name": name})
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                return await proceed()
            except BaseException as error:
                if control_flow_of(error) is None:
                    _mark_failed(span, type(error))
                raise
            finally:
                _end(span)

    def _context_of(self, ctx: JobContext[Any]) -> tuple[Context, list[Link]]:
        """Return the context for an attempt of a job, and a link to where it was enqueued."""
        around = Context()
        with shielded("reading the trace context of a job"):
            # By SQL, anything can be stored there.
            headers = {name.lower(): value for name, value in ctx.headers.items() if isinstance(value, str)}
            around = propagate.extract(headers, around)
        sent = trace.get_current_span(around).get_span_context()
        if not sent.is_valid:
            return around, []
        if self._attempts == "link":
            around = trace.set_span_in_context(INVALID_SPAN, around)
        return around, [Link(sent)]

    def _failed(self, span: Span, ctx: JobContext[Any], error: BaseException) -> dict[str, str]:
        """Record what an attempt has raised; return the attributes of a failure."""
        said = control_flow_of(error)
        if said is not None and not isinstance(said, Reject):
            span.set_attribute("messaging.pgqueue.signal", type(said).__name__)
            if not isinstance(said, Retry) or said.exc is None:
                return {}
            error = said.exc
        elif isinstance(error, asyncio.CancelledError) and ctx.is_stopped:
            # The worker stops, the job was cancelled or it is too late: its outcome says which.
            span.set_attribute("messaging.pgqueue.signal", "stopped")
            return {}
        failure = _mark_failed(span, type(error))
        if not isinstance(error, ControlFlow):
            with shielded("recording an error"):
                told = described(error, redacts=self._registry.redacts(ctx.task, ctx.queue))
                span.add_event(
                    "exception",
                    {
                        "exception.type": failure["error.type"],
                        "exception.message": told.message,
                        "exception.stacktrace": told.traceback or "",
                    },
                )
        return failure

    async def _flush(self) -> None:
        flush = getattr(self._provider or trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            with shielded("exporting the spans of a child process"):
                await asyncio.to_thread(flush, _FLUSH_WITHIN)

    def _start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        around: Context | None = None,
        links: Iterable[Link] = (),
    ) -> Span:
        try:
            return self._tracer.start_span(name, around, kind, attributes, tuple(links))
        except Exception:
            logger.warning("%s could not be traced; going on without", name, exc_info=True)
            return INVALID_SPAN


class _Sending:
    """One enqueue, of any number of jobs."""

    def __init__(self, span: Span, registry: Any) -> None:
        self.span = span
        self.headers = _injected()
        """What each job gets."""
        self.queues: Counter[str] = Counter()
        self._registry = registry
        self._known: dict[tuple[str, int], tuple[Options, Options, str]] = {}
        """What options came to: with those that they were, so that no others take their ids."""

    def stamp(self, call: Signature[Any]) -> Signature[Any]:
        """Return *call* with the headers, unless it has a context of its own, and count it."""
        try:
            options, queue = self._options_of(call)
        except Exception:
            # Whatever is wrong with the call, its enqueue says it.
            return call
        self.queues[queue] += 1
        return call if options is call.options else replace(call, options=options)

    def _options_of(self, call: Signature[Any]) -> tuple[Options, str]:
        key = (call.task, id(call.options))
        if key not in self._known:
            whole = self._registry.resolve(call.task, call.definition, call.options)
            options = call.options
            if not propagate.get_global_textmap().fields.isdisjoint(whole["headers"]):
                # The caller's own context: it stays, and is linked to.
                with shielded("linking to the context of a call"):
                    own = trace.get_current_span(propagate.extract(dict(whole["headers"]), Context()))
                    self.span.add_link(own.get_span_context())
            elif self.headers:
                options = call.with_headers(self.headers).options
            self._known[key] = call.options, options, whole["queue"]
        _, options, queue = self._known[key]
        return options, queue


def _injected() -> dict[str, str]:
    """Return the current context as headers of a job. What a header cannot hold is left out."""
    headers: dict[str, str] = {}
    with shielded("writing the trace context of a job"):
        propagate.inject(headers)
    return {name: value for name, value in headers.items() if value and len(value) <= MAX_HEADER_LENGTH}


def _mark_failed(span: Span, kind: type[BaseException]) -> dict[str, str]:
    module = kind.__module__
    name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    failure = {"error.type": name}
    with shielded("marking a span"):
        span.set_attributes(cast("Mapping[str, Any]", failure))
        span.set_status(StatusCode.ERROR)
    return failure


def _end(span: Span) -> None:
    with shielded("ending a span"):
        span.end()
