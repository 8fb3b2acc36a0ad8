"""Each job that fails is one event of Sentry's, with its stack, its job and what its handler has set."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
import structlog
from kit import inside, isolated_tasks
from kit.snippets import run, snippets
from kit.waiting import eventually, is_over
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration, unignore_logger
from sentry_sdk.transport import Transport

from pgqueue import ConfigurationError, JobContext, PgQueue, Reject, Snooze
from pgqueue.events import AttemptsEnded, JobRescued, JobsRescued
from pgqueue.integrations.sentry import instrument
from pgqueue.model.ids import new_id
from pgqueue.model.jobs import JobStatus

if TYPE_CHECKING:
    from conftest import Connection

SECRET = "4111 1111 1111 1111"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SHARED = OSError("the same every time")


class Kept(Transport):
    """Sentry's own seam for tests: what would be sent."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    @property
    def errors(self) -> list[Any]:
        return [event for each in self.envelopes if (event := each.get_event()) is not None]

    @property
    def transactions(self) -> list[Any]:
        found = [each.get_transaction_event() for each in self.envelopes]
        return [event for event in found if event is not None]


@pytest.fixture
def kept() -> Iterator[Callable[..., Kept]]:
    clients: list[Any] = []
    initialize = sentry_sdk.init

    def init(**options: Any) -> Kept:
        transport = Kept()
        initialize(
            transport=transport,
            default_integrations=False,
            integrations=[LoggingIntegration(), DedupeIntegration()],
            auto_enabling_integrations=False,
            **{"dsn": "https://key@sentry.invalid/1", **options},
        )
        clients.append(sentry_sdk.get_client())
        return transport

    unignore_logger("pgqueue.jobs")
    yield init
    for client in clients:
        client.close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)
    sentry_sdk.get_isolation_scope().clear()
    unignore_logger("pgqueue.jobs")


async def ended(pgq: PgQueue, *jobs: Any) -> None:
    async with pgq.worker(name="w1"):
        for job in jobs:
            await eventually(lambda job=job: is_over(pgq, job.id))  # type: ignore[misc]


def frames_of(event: Any) -> list[Any]:
    frames: list[Any] = event["exception"]["values"][-1]["stacktrace"]["frames"]
    return frames


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("way", ["coroutine", "thread"])
async def test_a_job_that_fails_is_one_event_with_its_stack_and_its_job(
    pgq: PgQueue, kept: Any, way: str
) -> None:
    sent = kept()
    instrument(pgq)

    def thread(card: str) -> None:
        sentry_sdk.set_tag("customer", "ada")
        sentry_sdk.add_breadcrumb(message="charging")
        charge()

    async def coroutine(card: str) -> None:
        await asyncio.sleep(0)
        thread(card)

    def charge() -> None:
        raise OSError("no answer")

    task: Any = pgq.task(
        name="work", queue="mail", max_retries=1, default_retry_delay=0, retry_backoff=False
    )(coroutine if way == "coroutine" else thread)
    job = await task.enqueue(SECRET)
    await ended(pgq, job)

    [event] = sent.errors
    [error] = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("OSError", "no answer")
    assert error["mechanism"]["handled"] is False
    functions = [frame["function"] for frame in frames_of(event)]
    assert functions[-2:] == ["thread", "charge"]
    assert functions[0] == way
    assert event["transaction"] == "work"
    assert event["transaction_info"] == {"source": "task"}
    assert event["level"] == "error"
    assert event["tags"] == {
        "customer": "ada",
        "pgqueue.task": "work",
        "pgqueue.queue": "mail",
        "pgqueue.reason": "exception",
    }
    assert event["contexts"]["pgqueue"] == {
        "job_id": str(job.id),
        "task": "work",
        "queue": "mail",
        "attempt": 2,
        "worker": "w1",
    }
    assert "charging" in [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    assert SECRET not in str(event)


@pytest.mark.contract("BP7")
async def test_scopes_of_jobs_that_run_side_by_side_are_apart(pgq: PgQueue, kept: Any) -> None:
    sent = kept()
    instrument(pgq)
    both = asyncio.Barrier(2)

    @pgq.task(max_retries=0)
    async def work(name: str) -> None:
        sentry_sdk.set_tag("name", name)
        sentry_sdk.set_tag(name, "set")
        await both.wait()
        raise OSError(name)

    await ended(pgq, *await pgq.enqueue_many([work.s("ada"), work.s("bob")]))

    tags = {event["exception"]["values"][0]["value"]: event["tags"] for event in sent.errors}
    assert {name: found["name"] for name, found in tags.items()} == {"ada": "ada", "bob": "bob"}
    assert "bob" not in tags["ada"]
    sentry_sdk.capture_message("outside of any job")
    assert "name" not in sent.errors[-1].get("tags", {})


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("retries", [False, True])
async def test_errors_that_are_retried_are_told_of_if_that_is_wanted(
    pgq: PgQueue, kept: Any, *, retries: bool
) -> None:
    sent = kept()
    instrument(pgq, retries=retries)

    @pgq.task(max_retries=2, default_retry_delay=0, retry_backoff=False)
    async def work() -> None:
        raise SHARED

    await ended(pgq, await work.enqueue(), await work.enqueue())

    levels = sorted(event["level"] for event in sent.errors)
    assert levels == (["error"] * 2 + ["warning"] * 4 if retries else ["error"] * 2)


@pytest.mark.contract("BP7", "P2.37")
@pytest.mark.parametrize(
    ("how", "types"),
    [
        ("snooze", []),
        ("throws", []),
        ("cancel", []),
        ("reject", ["Reject"]),
        ("retry", ["OSError"]),
        ("soft", ["SoftTimeLimitExceeded"]),
        ("hard", ["HardTimeout"]),
        ("captured", ["OSError"]),
        ("logged", ["OSError"]),
    ],
)
async def test_an_error_is_told_of_once_and_what_is_none_is_not(
    pgq: PgQueue, kept: Any, how: str, types: list[str]
) -> None:
    sent = kept()
    instrument(pgq)
    done = asyncio.Event()
    pgq.observe(lambda _event: done.set(), AttemptsEnded)
    limits: dict[str, Any] = {"soft": {"soft_timeout": 0.05}, "hard": {"soft_timeout": None, "timeout": 0.05}}

    @pgq.task(max_retries=0, throws=KeyError, **limits.get(how, {}))
    async def work(ctx: JobContext) -> None:
        raising = {"snooze": Snooze(3600), "throws": KeyError(), "reject": Reject("no such account")}
        if how in raising:
            raise raising[how]
        if how == "cancel":
            await pgq.cancel(ctx.job_id)
        if how in {"cancel", "soft", "hard"}:
            await asyncio.sleep(60)
        error = OSError("no answer")
        if how == "captured":
            sentry_sdk.capture_exception(error)
        if how == "logged":
            logging.getLogger("app").error("it failed", exc_info=error)
        if how == "retry":
            raise ctx.retry(exc=error)
        raise error

    await work.enqueue()
    async with pgq.worker(cancel_grace=1):
        await asyncio.wait_for(done.wait(), 60)

    assert [event["exception"]["values"][-1]["type"] for event in sent.errors] == types


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("is_wanted", [False, True])
async def test_arguments_are_sent_if_that_is_wanted_and_redacted_ones_never(
    pgq: PgQueue, kept: Any, *, is_wanted: bool
) -> None:
    sent = kept()
    instrument(pgq, arguments=is_wanted)

    @pgq.task(max_retries=0, redact=["card"])
    async def work(name: str, card: str, pin: SecretStr) -> None:
        try:
            int(card)
        except ValueError as error:
            # Whatever the handler sends itself.
            sentry_sdk.capture_exception(error)
            raise OSError("declined") from error

    await ended(pgq, await work.enqueue("ada", SECRET, SecretStr(SECRET)))

    by_handler, by_us = sent.errors
    arguments = {"name": "ada", "card": "[redacted]", "pin": "[redacted]"}
    assert by_us["contexts"]["pgqueue"].get("arguments") == (arguments if is_wanted else None)
    assert SECRET not in str(by_us)
    assert not any("vars" in frame for frame in frames_of(by_handler))
    assert [error["type"] for error in by_us["exception"]["values"]] == ["ValueError", "OSError"]


@pytest.mark.contract("BP7", "P2.39")
@pytest.mark.parametrize("is_sampled", [True, False])
async def test_a_job_continues_the_trace_that_it_was_enqueued_in(
    pgq: PgQueue, kept: Any, *, is_sampled: bool
) -> None:
    sent = kept(traces_sample_rate=1.0 if is_sampled else None)
    instrument(pgq)

    @pgq.task(max_retries=0, headers={"baggage": "tenant=ada"})
    async def work(ctx: JobContext) -> None:
        assert ctx.headers["baggage"]
        raise OSError("no answer")

    with sentry_sdk.start_transaction(name="request", op="http.server"):
        trace = sentry_sdk.get_traceparent()
        job = await work.enqueue()
    assert trace is not None
    await ended(pgq, job)

    [event] = sent.errors
    assert event["contexts"]["trace"]["trace_id"] == trace.split("-")[0]
    if is_sampled:
        by_name = {each["transaction"]: each for each in sent.transactions}
        attempt = by_name["work"]["contexts"]["trace"]
        assert (attempt["trace_id"], attempt["op"]) == (trace.split("-")[0], "queue.process")
        assert attempt["status"] == "internal_error"
        assert attempt["data"]["messaging.message.id"] == str(job.id)
        assert event["contexts"]["trace"]["span_id"] == attempt["span_id"]
        assert [span["op"] for span in by_name["request"]["spans"]] == ["queue.publish"]


@pytest.mark.contract("BP7")
@pytest.mark.parametrize(
    "headers", ['{"sentry-trace": "no", "baggage": ";;=,"}', '{"sentry-trace": 7}', "[]", '"sentry-trace"']
)
async def test_no_header_of_a_job_stops_it(pgq: PgQueue, db: Connection, kept: Any, headers: str) -> None:
    kept(traces_sample_rate=1.0)
    instrument(pgq)

    @pgq.task
    async def work() -> int:
        return 1

    job = await work.enqueue()
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.job set headers = $2::text::json where id = $1", job.id, headers)
    await ended(pgq, job)

    assert await job.result() == 1


@pytest.mark.contract("BP7")
async def test_an_sdk_that_is_off_or_fails_stops_no_job(pgq: PgQueue, kept: Any) -> None:
    def fail(*_given: Any) -> Any:
        raise RuntimeError("sampler")

    instrument(pgq)

    @pgq.task(max_retries=0)
    async def work(fails: bool) -> int:
        if fails:
            raise OSError
        return 1

    off = await work.enqueue(False)
    await ended(pgq, off)
    kept(traces_sampler=fail, before_send=fail)
    failing = [await work.enqueue(False), await work.enqueue(True)]
    await ended(pgq, *failing)

    assert (await off.result(), await failing[0].result()) == (1, 1)


@pytest.mark.contract("BP7", "P2.8")
async def test_a_child_process_and_a_lost_worker_are_told_of_by_those_that_remain(
    dsn: str, monkeypatch: pytest.MonkeyPatch, kept: Any
) -> None:
    sent = kept()
    monkeypatch.setenv(isolated_tasks.DSN, dsn)
    module: Any = importlib.reload(isolated_tasks)
    instrument(module.pgq)
    async with module.pgq:
        await ended(module.pgq, await module.fail.enqueue("no such account"))
        lost = JobRescued(new_id(), "work", "mail", 4, True, JobStatus.FAILED)
        inside.observers(module.pgq).emit(JobsRescued(0, [lost.job_id], "w2", [lost]))

    failed, rescued = sent.errors
    assert failed["exception"]["values"][-1]["type"] == "Noisy"
    assert frames_of(failed)[-1]["function"] == "fail"
    assert (rescued["exception"]["values"][-1]["type"], rescued["transaction"]) == ("WorkerLost", "work")
    assert rescued["fingerprint"] == ["{{ default }}", "work"]


@pytest.mark.contract("BP7")
async def test_without_the_integration_sentry_reads_the_log(pgq: PgQueue, kept: Any) -> None:
    sent = kept()

    @pgq.task(max_retries=1, default_retry_delay=0, retry_backoff=False)
    async def work() -> None:
        raise OSError("no answer")

    await ended(pgq, await work.enqueue())

    [event] = sent.errors
    assert event["logger"] == "pgqueue.jobs"
    assert [frame["function"] for frame in frames_of(event)] == ["work"]
    assert event["exception"]["values"][-1]["type"] == "OSError"


@pytest.mark.contract("BP7")
def test_what_cannot_be_instrumented_is_refused() -> None:
    pgq = PgQueue("postgresql://nowhere/none")
    instrument(pgq)
    unignore_logger("pgqueue.jobs")

    with pytest.raises(ConfigurationError, match="already"):
        instrument(pgq)
    with pytest.raises(ConfigurationError, match="must be a PgQueue"):
        instrument(7)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ConfigurationError, match="True or False"):
        instrument(PgQueue("postgresql://nowhere/none"), retries="last")  # type: ignore[arg-type]  # the same


@pytest.mark.contract("BP7")
async def test_the_page_on_observing_does_what_it_says(
    dsn: str, kept: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[Kept] = []
    monkeypatch.setattr(sentry_sdk, "init", lambda dsn: sent.append(kept(dsn=dsn)))
    spans, names = InMemorySpanExporter(), dict[str, Any]()
    try:
        for code in snippets("how-to/observe.md", "python"):
            await run(code.replace("postgresql://localhost/app", dsn), names)
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans))  # type: ignore[attr-defined]

        pgq: PgQueue = names["pgq"]

        @pgq.task(max_retries=0)
        async def work() -> None:
            structlog.get_logger().info("charging", customer="ada")
            raise OSError("no answer")

        async with pgq:
            job = await work.enqueue()
            await ended(pgq, job)
    finally:
        logging.getLogger("pgqueue").removeHandler(names["handler"])
        structlog.reset_defaults()

    [event] = sent[0].errors
    assert event["transaction"] == "work"
    assert [span.name for span in spans.get_finished_spans()] == ["enqueue default", "process default"]
    shown = capsys.readouterr()
    [charging] = map(json.loads, shown.out.splitlines())
    assert (charging["event"], charging["job_id"], charging["customer"]) == ("charging", str(job.id), "ada")
    failed = [json.loads(line) for line in shown.err.splitlines()][-1]
    assert (failed["job_id"], failed["to_status"], failed["level"]) == (str(job.id), "failed", "error")
    assert "OSError: no answer" in failed["exception"]
