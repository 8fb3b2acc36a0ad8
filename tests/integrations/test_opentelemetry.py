"""Traces lead from whoever enqueues a job to its attempts, whatever the job, its headers and the SDK do."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kit import traced_tasks
from kit.waiting import eventually, is_over
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr

from pgqueue import ConfigurationError, InvalidArgumentsError, JobContext, PgQueue, Reject, Snooze, chain
from pgqueue.blocking import BlockingPgQueue
from pgqueue.integrations.opentelemetry import instrument

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.handlers

SECRET = "4111 1111 1111 1111"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Seen:
    """What the SDK has recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.provider.get_tracer("tests")

    def instrument(self, pgq: PgQueue, **options: Any) -> None:
        instrument(pgq, tracer_provider=self.provider, meter_provider=self.meters, **options)

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        """Those of a kind, in the order in which they ended."""
        return [span for span in self._exporter.get_finished_spans() if span.kind is kind]

    def only(self, kind: SpanKind) -> Any:
        [span] = self.spans(kind)
        return span

    def points(self, metric: str) -> list[Any]:
        """The points of a metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]


@pytest.fixture
def seen() -> Iterator[Seen]:
    found = Seen()
    yield found
    found.provider.shutdown()
    found.meters.shutdown()


def linked(span: Any) -> list[int]:
    return [link.context.span_id for link in span.links]


async def ended(pgq: PgQueue, *jobs: Any) -> None:
    async with pgq.worker(name="w1"):
        for job in jobs:
            await eventually(lambda job=job: is_over(pgq, job.id))  # type: ignore[misc]


@pytest.mark.contract("BP7", "P2.39")
@pytest.mark.parametrize("attempts", ["link", "child"])
async def test_each_attempt_is_a_span_that_leads_to_the_enqueue(
    pgq: PgQueue, seen: Seen, attempts: str
) -> None:
    seen.instrument(pgq, attempts=attempts)

    @pgq.task(max_retries=1, default_retry_delay=0, retry_backoff=False, queue="mail")
    async def work() -> None:
        raise ValueError("no answer")

    with seen.tracer.start_as_current_span("request") as request:
        job = await work.enqueue()
    await ended(pgq, job)

    sent = seen.only(SpanKind.PRODUCER)
    first, second = seen.spans(SpanKind.CONSUMER)
    assert (sent.name, sent.parent.span_id) == ("enqueue mail", request.get_span_context().span_id)
    assert dict(sent.attributes) == {
        "messaging.system": "pgqueue",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(job.id),
    }
    for number, span in enumerate((first, second), 1):
        attributes: Any = span.attributes
        assert span.name == "process mail"
        assert dict(attributes) == {
            "messaging.system": "pgqueue",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "mail",
            "messaging.message.id": str(job.id),
            "messaging.client.id": "w1",
            "messaging.pgqueue.task.name": "work",
            "messaging.pgqueue.attempt": number,
            "error.type": "ValueError",
        }
        assert linked(span) == [sent.context.span_id]
        assert span.status.status_code is StatusCode.ERROR
        [event] = span.events
        said: Any = event.attributes
        assert (event.name, said["exception.message"]) == ("exception", "no answer")
        assert "in work" in said["exception.stacktrace"]
        is_child = attempts == "child"
        assert (span.parent is not None) is is_child
        assert (span.context.trace_id == sent.context.trace_id) is is_child
    assert first.context.span_id != second.context.span_id


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("way", ["many", "generator", "connection", "workflow", "dag", "depends_on", "key"])
async def test_every_way_to_enqueue_gives_its_context_to_each_job(
    pgq: PgQueue, db: Connection, seen: Seen, way: str
) -> None:
    seen.instrument(pgq)

    @pgq.task
    async def work(number: int) -> int:
        return number

    match way:
        case "many":
            jobs: list[Any] = await pgq.enqueue_many([work.s(1), work.options(queue="mail").s(2)])
        case "generator":
            jobs = await pgq.enqueue_many(work.s(number) for number in range(2))
        case "connection":
            async with db.transaction():
                jobs = await pgq.enqueue_many([work.s(1), work.s(2)], connection=db)
        case "workflow":
            await chain(work.s(1), work.s()).enqueue()
        case "dag":
            dag = pgq.workflow("w")
            first = dag.add("first", work.s(1))
            dag.add("second", work.s(), after=[first])
            await dag.enqueue()
        case "depends_on":
            parent = await work.enqueue(1)
            await work.options(depends_on=[parent.id]).enqueue(2)
        case _:
            jobs = [await work.options(idempotency_key="k").enqueue(1), await work.enqueue(2)]
    async with pgq.worker(queues=["default", "mail"]):
        await eventually(lambda: has_run(seen, 2))

    sent = {span.context.span_id: span for span in seen.spans(SpanKind.PRODUCER)}
    assert len(sent) == (2 if way in {"depends_on", "key"} else 1)
    assert {*sent} == {each for span in seen.spans(SpanKind.CONSUMER) for each in linked(span)}
    if way in {"many", "generator", "connection"}:
        [span] = sent.values()
        attributes: Any = span.attributes
        assert attributes["messaging.batch.message_count"] == len(jobs)
        assert span.name == ("enqueue" if way == "many" else "enqueue default")


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("is_lent", [False, True])
def test_a_blocking_enqueue_is_below_the_span_of_its_caller(dsn: str, seen: Seen, *, is_lent: bool) -> None:
    pgq = PgQueue(dsn)
    seen.instrument(pgq)

    @pgq.task
    async def work() -> None: ...

    with BlockingPgQueue(pgq) as queue, seen.tracer.start_as_current_span("request") as request:
        if is_lent:
            with psycopg.connect(dsn) as connection, connection.transaction():
                job = queue.enqueue(work.s(), connection=connection)
        else:
            job = queue.enqueue(work.s())
        stored = queue.get(job.id)

    sent = seen.only(SpanKind.PRODUCER)
    assert sent.parent.span_id == request.get_span_context().span_id
    assert trace.format_span_id(sent.context.span_id) in stored.headers["traceparent"]


async def has_run(seen: Seen, count: int) -> bool:
    return len(seen.spans(SpanKind.CONSUMER)) >= count


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("way", ["coroutine", "thread", "wrapped"])
async def test_a_handler_is_inside_the_span_and_has_the_baggage(pgq: PgQueue, seen: Seen, way: str) -> None:
    seen.instrument(pgq)
    inside: list[tuple[int, object]] = []

    def look() -> None:
        inside.append((trace.get_current_span().get_span_context().span_id, baggage.get_baggage("tenant")))

    async def coroutine() -> None:
        await asyncio.sleep(0)
        look()
        await asyncio.create_task(later())

    async def later() -> None:
        look()

    def thread() -> None:
        look()
        other = threading.Thread(target=copy_context().run, args=[look])
        other.start()
        other.join()

    def wrapped() -> Any:
        return coroutine()

    task: Any = pgq.task({"coroutine": coroutine, "thread": thread, "wrapped": wrapped}[way])

    token = context.attach(baggage.set_baggage("tenant", "ada & co"))
    try:
        job = await task.enqueue()
    finally:
        context.detach(token)
    await ended(pgq, job)

    assert inside == [(seen.only(SpanKind.CONSUMER).context.span_id, "ada & co")] * 2


@pytest.mark.contract("BP7")
async def test_steps_and_workflows_of_a_job_are_below_its_span(pgq: PgQueue, seen: Seen) -> None:
    seen.instrument(pgq)

    @pgq.task
    async def child() -> int:
        return 1

    @pgq.task(default_retry_delay=0, retry_backoff=False)
    async def parent(ctx: JobContext) -> int:
        one = await ctx.step("one", asyncio.sleep, 0, 1)
        if ctx.attempt == 1:
            await ctx.step("two", fail)
        return one

    @pgq.task
    async def starter(ctx: JobContext) -> None:
        await ctx.start("children", child.s())

    async def fail() -> None:
        raise OSError("no answer")

    await ended(pgq, await parent.enqueue(), await starter.enqueue())
    async with pgq.worker():
        await eventually(lambda: has_run(seen, 4))

    steps: list[Any] = seen.spans(SpanKind.INTERNAL)
    attempts: dict[str, Any] = {}
    for span in seen.spans(SpanKind.CONSUMER):
        attributes: Any = span.attributes
        attempts.setdefault(attributes["messaging.pgqueue.task.name"], span)
    # What was stored does not run again, and is no span.
    assert [(span.name, span.status.status_code) for span in steps] == [
        ("step one", StatusCode.UNSET),
        ("step two", StatusCode.ERROR),
    ]
    assert {span.parent.span_id for span in steps} == {attempts["parent"].context.span_id}
    assert linked(attempts["child"]) == [attempts["starter"].context.span_id]


@pytest.mark.contract("BP7")
@pytest.mark.parametrize(
    ("how", "error_type", "signal"),
    [
        ("return", None, None),
        ("snooze", None, "Snooze"),
        ("sleep", None, "Suspend"),
        ("reject", "pgqueue.retry.control.Reject", None),
        ("retry", "OSError", "Retry"),
        ("soft", "pgqueue.errors.SoftTimeLimitExceeded", None),
        ("cancel", None, "stopped"),
    ],
)
async def test_what_a_handler_says_is_no_error_unless_it_is_one(
    pgq: PgQueue, seen: Seen, how: str, error_type: str | None, signal: str | None
) -> None:
    seen.instrument(pgq)
    started = asyncio.Event()

    @pgq.task(max_retries=0, soft_timeout=0.05 if how == "soft" else None)
    async def work(ctx: JobContext) -> None:
        started.set()
        match how:
            case "snooze":
                raise Snooze(3600)
            case "sleep":
                await ctx.sleep("long", 3600)
            case "reject":
                raise Reject("no such account")
            case "retry":
                raise ctx.retry(exc=OSError("no answer"), countdown=3600)
            case "soft" | "cancel":
                await asyncio.sleep(60)

    job = await work.enqueue()
    async with pgq.worker():
        await started.wait()
        if how == "cancel":
            await job.cancel()
        await eventually(lambda: has_run(seen, 1))

    span = seen.only(SpanKind.CONSUMER)
    assert span.attributes.get("error.type") == error_type
    assert span.attributes.get("messaging.pgqueue.signal") == signal
    assert (span.status.status_code is StatusCode.ERROR) is (error_type is not None)


@pytest.mark.contract("BP7", "P1.2")
@pytest.mark.parametrize(
    "headers",
    [
        None,
        '{"traceparent": "not one"}',
        '{"traceparent": "00-00000000000000000000000000000000-0000000000000000-01"}',
        '{"traceparent": 7, "baggage": null, "tracestate": [1]}',
        '{"baggage": "a=b;;;,,,=,%ff%00,\\u0000x"}',
        json.dumps({"traceparent": PARENT, "tracestate": "=" * 5000, "baggage": "x" * 9000}),
        "[]",
        '"traceparent"',
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_no_header_of_a_job_stops_it(
    pgq: PgQueue, db: Connection, seen: Seen, headers: str | None
) -> None:
    seen.instrument(pgq)

    @pgq.task
    async def work(ctx: JobContext) -> None: ...

    job = await pgq.enqueue_by_name("work")
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.job set headers = $2::text::json where id = $1", job.id, headers)
    await ended(pgq, job)

    span = seen.only(SpanKind.CONSUMER)
    assert span.status.status_code is StatusCode.UNSET
    is_valid = headers is not None and TRACE in headers
    assert [link.context.trace_id for link in span.links] == ([int(TRACE, 16)] if is_valid else [])


@pytest.mark.contract("BP7")
async def test_a_context_that_the_caller_gives_stays_and_is_linked_to(pgq: PgQueue, seen: Seen) -> None:
    seen.instrument(pgq)

    @pgq.task(headers={"source": "tests"})
    async def work(ctx: JobContext) -> dict[str, str]:
        return ctx.headers

    own = await work.options(headers={"traceparent": PARENT}).enqueue()
    plain = await work.enqueue()
    await ended(pgq, own, plain)

    both: list[Any] = seen.spans(SpanKind.PRODUCER)
    sent, other = both
    assert await own.result() == {"traceparent": PARENT}
    assert [link.context.trace_id for link in sent.links] == [int(TRACE, 16)]
    kept = await plain.result()
    assert (kept["source"], other.links) == ("tests", ())
    assert trace.format_span_id(other.context.span_id) in kept["traceparent"]


@pytest.mark.contract("BP7")
async def test_headers_that_have_no_room_are_left_as_they_are(pgq: PgQueue, seen: Seen) -> None:
    seen.instrument(pgq)
    full = {f"h{number}": "x" for number in range(100)}

    @pgq.task
    async def work(ctx: JobContext) -> dict[str, str]:
        return ctx.headers

    job = await work.options(headers=full).enqueue()
    await ended(pgq, job)

    assert await job.result() == full


@pytest.mark.contract("BP7")
async def test_a_call_that_is_refused_is_a_span_that_quotes_nothing(pgq: PgQueue, seen: Seen) -> None:
    seen.instrument(pgq)

    @pgq.task(redact=["card"])
    async def work(card: int) -> None: ...

    with pytest.raises(InvalidArgumentsError):
        await work.enqueue(SECRET)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(Exception, match="only a call"):
        await pgq.enqueue_many([7])  # type: ignore[arg-type]  # the same

    for span in seen.spans(SpanKind.PRODUCER):
        assert span.status.status_code is StatusCode.ERROR
        assert SECRET not in span.to_json()


@pytest.mark.contract("BP7")
async def test_where_arguments_are_redacted_an_error_keeps_its_places_alone(pgq: PgQueue, seen: Seen) -> None:
    seen.instrument(pgq)

    @pgq.task(max_retries=0)
    async def work(card: SecretStr) -> None:
        try:
            int(card.get_secret_value())
        except ValueError as error:
            raise RuntimeError("declined") from error

    await ended(pgq, await work.enqueue(SecretStr(SECRET)))

    span = seen.only(SpanKind.CONSUMER)
    assert SECRET not in span.to_json()
    assert "in work" in span.events[0].attributes["exception.stacktrace"]


class Broken(SpanProcessor):
    """Of an SDK that fails."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("start")

    def on_end(self, span: Any) -> None:
        raise RuntimeError("end")


class BrokenSampler(Sampler):
    """The same."""

    def should_sample(self, *_given: Any, **_named: Any) -> Any:
        raise RuntimeError("sampler")

    def get_description(self) -> str:
        return "broken"


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("part", ["processor", "sampler", "off", "none"])
async def test_nothing_that_the_sdk_does_stops_a_job(
    pgq: PgQueue, seen: Seen, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    provider: Any = TracerProvider(sampler={"sampler": BrokenSampler(), "off": ALWAYS_OFF}.get(part))
    if part == "processor":
        provider.add_span_processor(Broken())
    if part == "none":
        provider = trace.NoOpTracerProvider()
    instrument(pgq, tracer_provider=provider, meter_provider=seen.meters)

    @pgq.task
    async def work(ctx: JobContext) -> int:
        return await ctx.step("one", asyncio.sleep, 0, 1)

    job = await work.enqueue()
    await ended(pgq, job)

    assert await job.result() == 1
    provider.shutdown() if part != "none" else None


@pytest.mark.contract("BP7")
async def test_metrics_count_and_time_what_is_enqueued_and_processed(pgq: PgQueue, seen: Seen) -> None:
    seen.instrument(pgq)

    @pgq.task(max_retries=0, queue="mail")
    async def work(fails: bool) -> None:
        if fails:
            raise OSError("no answer")

    await ended(pgq, *await pgq.enqueue_many([work.s(False), work.s(True), work.s(False)]))

    send = {
        "messaging.system": "pgqueue",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
    }
    process = {
        **send,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.pgqueue.task.name": "work",
    }
    [sent] = seen.points("messaging.client.sent.messages")
    [took] = seen.points("messaging.client.operation.duration")
    assert (sent.value, dict(sent.attributes)) == (3, send)
    assert (took.count, dict(took.attributes)) == (1, send)
    for metric, size in (
        ("messaging.client.consumed.messages", "value"),
        ("messaging.process.duration", "count"),
    ):
        found = {point.attributes.get("error.type"): point for point in seen.points(metric)}
        assert {kind: getattr(point, size) for kind, point in found.items()} == {None: 2, "OSError": 1}
        assert dict(found[None].attributes) == process


@pytest.mark.contract("BP7", "P2.8")
async def test_a_child_process_traces_its_attempt_and_exports_it_at_once(
    dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(traced_tasks.DSN, dsn)
    monkeypatch.setenv(traced_tasks.SPANS, str(tmp_path / "spans"))
    module: Any = importlib.reload(traced_tasks)
    async with module.pgq:
        job = await module.where.enqueue()
        async with module.pgq.worker(concurrency=1):
            inside = await job.result(timeout=60)
            # While the child is still there: nothing waits for its end.
            exported = [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]
    module.provider.shutdown()

    [span] = [each for each in exported if each["kind"] == "SpanKind.CONSUMER"]
    assert span["context"]["span_id"] == f"0x{inside}"
    assert span["links"] != []


@pytest.mark.contract("BP7")
def test_what_cannot_be_instrumented_is_refused(seen: Seen) -> None:
    pgq = PgQueue("postgresql://nowhere/none")
    seen.instrument(pgq)

    with pytest.raises(ConfigurationError, match="already"):
        instrument(pgq)
    with pytest.raises(ConfigurationError, match="must be a PgQueue"):
        instrument(7)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ConfigurationError, match="'link' or 'child'"):
        instrument(PgQueue("postgresql://nowhere/none"), attempts="parent")  # type: ignore[arg-type]  # the same


@pytest.mark.contract("BP7")
@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("opentelemetry", "opentelemetry", "opentelemetry"), ("sentry", "sentry_sdk", "sentry")],
)
def test_the_library_is_only_asked_for_by_its_module(module: str, library: str, extra: str) -> None:
    code = (
        "import sys, pgqueue; assert not [m for m in sys.modules if m.split('.')[0] == sys.argv[1]]\n"
        "sys.modules[sys.argv[1]] = None\n"
        f"import pgqueue.integrations.{module}"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, library], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip

    assert f"pip install 'pgqueue-asyncio[{extra}]'" in found.stderr
