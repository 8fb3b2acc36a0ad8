"""The metrics that a scrape sees."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import anyio.to_thread
import pytest
from kit import inside
from kit.claimed import claimed_job
from kit.dead_plans import MANY, crowded, rows_read
from kit.metrics import are_running
from kit.waiting import eventually
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pgqueue import PgQueue, chord
from pgqueue.errors import ConfigurationError
from pgqueue.events import AttemptEnded, AttemptsEnded, AttemptsFenced, JobsClaimed, JobsEnqueued, JobsRescued
from pgqueue.metrics import DatabaseMetrics, Metrics, exposition
from pgqueue.metrics.declared import Declaration
from pgqueue.metrics.gauges import Snapshot, families
from pgqueue.metrics.histograms import Histogram
from pgqueue.metrics.labels import MAX_LENGTH, MAX_SERIES, OTHER, Cap
from pgqueue.model.jobs import JobStatus
from pgqueue.model.limits import LimitUse
from pgqueue.model.measures import Count, Drain, QueueMeasure
from pgqueue.model.schedules import ScheduleMeasure
from pgqueue.model.workflows import WorkflowMeasure
from pgqueue.store import Lane, Store

if TYPE_CHECKING:
    from conftest import Connection

CLAIMED = JobsClaimed([claimed_job("add", lane=1, waited=0.5)], {1: Lane(1, "sums", 0, "")})

NO_MORE = (
    *(None, WorkflowMeasure({}, 0, 0, None, 0, None, 0), ScheduleMeasure(0, 0, 0, 0.0)),
    *((), (), datetime.now(UTC)),
)


@pytest.fixture
def unbuffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every scrape ask the database."""
    monkeypatch.setattr(exposition, "FRESH", 0.0)


async def samples(metrics: DatabaseMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a scrape sees, by name and labels."""
    text = (await metrics.render()).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_jobs_are_counted_from_enqueue_to_their_ends(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)

    @pgq.task(queue="sums")
    async def add(a: int, b: int) -> int:
        return a + b

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError

    jobs = await pgq.enqueue_many([add.s(1, 2), add.s(3, 4), fail.s()])
    async with pgq.worker():
        with anyio.fail_after(60):
            for job in jobs:
                await pgq.wait(job.id)
    seen = await samples(metrics)

    assert seen[key("pgqueue_jobs_enqueued_total", task="add", queue="sums")] == 2
    assert seen[key("pgqueue_jobs_enqueued_total", task="fail", queue="default")] == 1
    assert seen[key("pgqueue_jobs_claimed_total", task="add", queue="sums")] == 2
    assert seen[key("pgqueue_attempts_ended_total", task="add", queue="sums", status="succeeded")] == 2
    assert seen[key("pgqueue_attempts_ended_total", task="fail", queue="default", status="failed")] == 1
    assert seen[key("pgqueue_job_wait_seconds_count", task="add", queue="sums")] == 2
    assert seen[key("pgqueue_attempt_run_seconds_count", task="add", queue="sums")] == 2
    assert seen[key("pgqueue_attempt_run_seconds_count", task="fail", queue="default")] == 1


@pytest.mark.contract("BP10")
async def test_batches_and_the_worker_itself_are_measured(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)
    release = anyio.Event()

    @pgq.task
    async def hold() -> None:
        await release.wait()

    async def loop_was_asked() -> bool:
        return metrics.registry.get_sample_value("pgqueue_event_loop_lag_seconds_count") != 0

    jobs = await pgq.enqueue_many([hold.s() for _ in range(3)])
    async with pgq.worker(concurrency=7) as worker:
        await eventually(lambda: are_running(worker, 3))
        await eventually(loop_was_asked)
        seen = await samples(metrics)
        release.set()
        for job in jobs:
            await job.result(timeout=60)
    after = await samples(metrics)

    assert seen[key("pgqueue_worker_slots")] == 7
    assert seen[key("pgqueue_worker_running")] == 3
    assert seen[key("pgqueue_worker_lease_age_seconds")] >= 0
    assert key("pgqueue_worker_slots") not in after
    assert after[key("pgqueue_batch_jobs_sum", verb="enqueue")] == 3
    assert after[key("pgqueue_batch_jobs_sum", verb="claim")] == 3
    assert after[key("pgqueue_batch_jobs_sum", verb="finish")] == 3
    assert after[key("pgqueue_batch_seconds_count", verb="enqueue")] == 1
    assert after[key("pgqueue_batch_seconds_sum", verb="enqueue")] > 0


async def test_an_attempt_that_is_followed_by_another_is_counted_as_retried(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)

    @pgq.task(max_retries=1, retry_intervals=[0])
    async def fail() -> None:
        raise ValueError

    job = await fail.enqueue()
    async with pgq.worker():
        with anyio.fail_after(60):
            await pgq.wait(job.id)
    seen = await samples(metrics)

    assert seen[key("pgqueue_attempts_retried_total", task="fail", queue="default")] == 1
    assert seen[key("pgqueue_attempts_ended_total", task="fail", queue="default", status="scheduled")] == 1
    assert seen[key("pgqueue_dead_letters_total", task="fail", queue="default", reason="exception")] == 1


@pytest.mark.contract("BP10")
async def test_queues_are_measured_at_each_scrape(pgq: PgQueue, unbuffered: None) -> None:
    metrics = Metrics(pgq)

    @pgq.task(queue="mail")
    async def send() -> None: ...

    jobs = await pgq.enqueue_many([send.s(), send.s()])
    await send.options(delay=3600).enqueue()
    await pgq.pause(queue="mail")
    full = await samples(metrics)
    for job in jobs:
        await job.cancel()
    await pgq.resume(queue="mail")
    empty = await samples(metrics)

    assert full[key("pgqueue_database_up")] == 1
    assert full[key("pgqueue_queue_jobs", queue="mail", status="pending")] == 2
    assert full[key("pgqueue_queue_jobs", queue="mail", status="scheduled")] == 1
    assert full[key("pgqueue_queue_oldest_pending_seconds", queue="mail")] > 0
    assert full[key("pgqueue_queue_paused", queue="mail")] == 1
    assert full[key("pgqueue_workers_alive")] == 0
    assert empty[key("pgqueue_queue_jobs", queue="mail", status="pending")] == 0
    assert empty[key("pgqueue_queue_oldest_pending_seconds", queue="mail")] == 0
    assert empty[key("pgqueue_queue_paused", queue="mail")] == 0


@pytest.mark.contract("BP10")
async def test_jobs_that_run_and_jobs_that_have_failed_are_measured(
    pgq: PgQueue, db: Connection, unbuffered: None
) -> None:
    metrics = Metrics(pgq)
    release = anyio.Event()

    @pgq.task
    async def hold() -> None:
        await release.wait()

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError

    failing, job = await fail.enqueue(), await hold.enqueue()
    async with pgq.worker() as worker:
        with anyio.fail_after(60):
            await pgq.wait(failing.id)
        await eventually(lambda: are_running(worker, 1))
        await db.execute("update pgqueue.dead_letter set failed_at = failed_at - interval '1 hour'")
        seen = await samples(metrics)
        release.set()
        await job.result(timeout=60)
    after = await samples(metrics)

    assert seen[key("pgqueue_queue_jobs", queue="default", status="running")] == 1
    assert seen[key("pgqueue_queue_jobs", queue="default", status="failed")] == 1
    assert 3600 <= seen[key("pgqueue_oldest_dead_letter_seconds")] < 7200
    assert seen[key("pgqueue_workers_alive")] == 1
    assert seen[key("pgqueue_longest_running_job_seconds")] > 0
    assert after[key("pgqueue_workers_alive")] == 0
    assert after[key("pgqueue_longest_running_job_seconds")] == 0


@pytest.mark.contract("BP10")
async def test_many_scrapes_at_once_cost_the_database_one_measure(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(pgq)
    measures = 0
    measure = pgq.measure

    async def count() -> list[QueueMeasure]:
        nonlocal measures
        measures += 1
        return await measure()

    monkeypatch.setattr(exposition, "FRESH", 3600.0)
    monkeypatch.setattr(pgq, "measure", count)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(metrics.render)

    assert measures == 1


@pytest.mark.contract("BP10")
async def test_the_oldest_of_many_dead_letters_costs_one_row(dsn: str) -> None:
    async with crowded(dsn) as bench:
        store = Store("pgqueue")

        read = await rows_read(bench.connection, lambda: store.read_oldest_age(bench.connection))
        age = await store.read_oldest_age(bench.connection)

    assert age is not None
    assert age >= MANY
    assert read.total() <= 1


async def test_without_a_database_the_metrics_of_queues_are_left_out(pgq: PgQueue, unbuffered: None) -> None:
    metrics = Metrics(pgq)

    @pgq.task
    async def work() -> None: ...

    await work.enqueue()
    before = await samples(metrics)
    await pgq.close()
    after = await samples(metrics)

    assert (before[key("pgqueue_database_up")], after[key("pgqueue_database_up")]) == (1, 0)
    assert any(name == "pgqueue_queue_jobs" for name, _ in before)
    assert not any(name.startswith(("pgqueue_queue_", "pgqueue_workers_")) for name, _ in after)
    assert after[key("pgqueue_jobs_enqueued_total", task="work", queue="default")] == 1


async def test_errors_of_the_database_do_not_end_the_refreshing(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(pgq)
    await db.execute("alter table pgqueue.dead_letter rename to elsewhere")

    async def is_down() -> bool:
        return metrics.registry.get_sample_value("pgqueue_database_up") == 0

    async with metrics.refreshing(every=0.01):
        await eventually(is_down)

    assert "the queues cannot be measured" in caplog.text


async def test_a_service_collects_its_own_registry_in_any_thread(pgq: PgQueue) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(pgq, registry=registry)
    Counter("requests_total", "Of the service", registry=registry).inc()

    @pgq.task(queue="mail")
    async def send() -> None: ...

    await send.enqueue()
    early = await anyio.to_thread.run_sync(generate_latest, registry)
    async with metrics.refreshing(every=0.01):

        async def shows_the_job() -> bool:
            page = (await anyio.to_thread.run_sync(generate_latest, registry)).decode()
            return (
                'pgqueue_queue_jobs{queue="mail",status="pending"} 1.0' in page
                and "requests_total 1.0" in page
            )

        await eventually(shows_the_job)

    assert b"pgqueue_queue_jobs{" not in early
    assert b"\npgqueue_database_up" not in early


async def test_a_measurement_that_is_not_refreshed_is_not_shown_for_ever(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(pgq)
    await metrics.measure()
    fresh = metrics.registry.get_sample_value("pgqueue_workers_alive")

    monkeypatch.setattr(exposition, "STALE", 0.0)

    assert fresh == 0
    assert metrics.registry.get_sample_value("pgqueue_workers_alive") is None
    assert metrics.registry.get_sample_value("pgqueue_database_up") is None


async def test_a_registry_that_has_such_metrics_already_is_refused(pgq: PgQueue) -> None:
    registry = CollectorRegistry()
    Metrics(pgq, registry=registry)

    with pytest.raises(ConfigurationError, match=r"pass a CollectorRegistry\(\) of its own"):
        Metrics(pgq, registry=registry)


@pytest.mark.contract("BP10")
def test_endless_names_do_not_become_endless_series() -> None:
    pgq = PgQueue("postgresql://nowhere/")
    metrics = Metrics(pgq)

    for number in range(3 * MAX_SERIES):
        series = (f"task-{number}", "default")
        inside.observers(pgq).emit(JobsEnqueued({series: 1}))
    pages = list(metrics.registry.collect())

    [family] = [each for each in pages if each.name == "pgqueue_jobs_enqueued"]
    totals = {sample.labels["task"]: sample.value for sample in family.samples if "_total" in sample.name}
    assert len(totals) == MAX_SERIES + 1
    assert totals["task-0"] == 1
    assert totals[OTHER] == 2 * MAX_SERIES


def test_a_name_is_cut_and_can_always_be_sent() -> None:
    cap = Cap()

    assert cap.of("x" * 10_000) == ("x" * MAX_LENGTH,)
    assert cap.of("half a pair \ud800") == ("half a pair ?",)
    assert cap.of('a"b\nc', "q") == ('a"b\nc', "q")


def a_queue(name: str, pending: int, drain: Drain | None = None) -> QueueMeasure:
    none = Count(0)
    return QueueMeasure(
        queue=name,
        is_paused=False,
        pending=Count(pending),
        scheduled=none,
        retrying=none,
        blocked=none,
        running=none,
        failed=none,
        oldest_age=float(pending),
        enqueued_rate=1.0,
        finished_rate=2.0,
        wait=None,
        run=None,
        drain=drain,
    )


@pytest.mark.contract("BP10")
def test_queues_past_the_cap_are_shown_as_one() -> None:
    snapshot = Snapshot([a_queue("a", 1), a_queue("b", 2), a_queue("c", 3)], [], *NO_MORE)

    shown = {family.name: family for family in families(snapshot, cap=Cap(1), limit_cap=Cap(1))}

    pending = {
        sample.labels["queue"]: sample.value
        for sample in shown["pgqueue_queue_jobs"].samples
        if sample.labels["status"] == "pending"
    }
    assert pending == {"a": 1, OTHER: 5}
    oldest = shown["pgqueue_queue_oldest_pending_seconds"].samples
    assert {sample.labels["queue"]: sample.value for sample in oldest} == {"a": 1, OTHER: 3}


@pytest.mark.contract("BP10")
def test_the_time_until_a_queue_is_empty_is_shown_with_its_spread() -> None:
    snapshot = Snapshot(
        [a_queue("a", 1, Drain(1.0, 2.0, float("inf"))), a_queue("b", 2)],
        [],
        *NO_MORE,
    )

    shown = {family.name: family for family in families(snapshot, cap=Cap(), limit_cap=Cap())}

    assert [
        (sample.labels["queue"], sample.labels["estimate"], sample.value)
        for sample in shown["pgqueue_queue_drain_seconds"].samples
    ] == [("a", "low", 1.0), ("a", "likely", 2.0), ("a", "high", float("inf"))]


async def test_a_job_that_never_ran_has_no_run_time(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)

    @pgq.task
    async def never() -> None: ...

    job = await never.options(expires=3600).enqueue()
    async with inside.database(pgq).acquire() as connection:
        await connection.execute("update pgqueue.job set expires_at = now() - interval '1 second'")

    async def is_expired() -> bool:
        return await job.status() is JobStatus.EXPIRED

    async with pgq.worker():
        await eventually(is_expired)
    seen = await samples(metrics)

    assert seen[key("pgqueue_attempts_ended_total", task="never", queue="default", status="expired")] == 1
    assert key("pgqueue_attempt_run_seconds_count", task="never", queue="default") not in seen


async def test_fenced_outcomes_and_rescued_jobs_are_counted(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)

    inside.observers(pgq).emit(AttemptsFenced([uuid4(), uuid4()]))
    inside.observers(pgq).emit(JobsRescued(requeued=3, failed=[uuid4()], worker="lost"))
    seen = await samples(metrics)

    assert seen[key("pgqueue_attempts_fenced_total")] == 2
    assert seen[key("pgqueue_jobs_rescued_total", outcome="requeued")] == 3
    assert seen[key("pgqueue_jobs_rescued_total", outcome="failed")] == 1


async def test_metrics_go_into_a_registry_that_is_given(pgq: PgQueue) -> None:
    registry = CollectorRegistry()
    Metrics(pgq, registry=registry)

    inside.observers(pgq).emit(CLAIMED)

    labels = {"task": "add", "queue": "sums"}
    assert registry.get_sample_value("pgqueue_jobs_claimed_total", labels) == 1
    assert registry.get_sample_value("pgqueue_job_wait_seconds_sum", labels) == 0.5


async def test_two_sets_of_metrics_do_not_disturb_each_other(pgq: PgQueue) -> None:
    one, other = Metrics(pgq), Metrics(pgq)

    inside.observers(pgq).emit(CLAIMED)

    assert (await samples(one))[key("pgqueue_jobs_claimed_total", task="add", queue="sums")] == 1
    assert (await samples(other))[key("pgqueue_jobs_claimed_total", task="add", queue="sums")] == 1


def test_a_value_on_a_bound_is_counted_below_it() -> None:
    histogram = Histogram(Declaration("seconds", "histogram", ["queue"], "..."), bounds=(1, 2))

    histogram.observe(("a",), [0.5, 1.0, 1.5, 3.0])
    [family] = histogram.collect()

    seen = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert seen == {
        ("seconds_bucket", "1.0"): 2,
        ("seconds_bucket", "2.0"): 3,
        ("seconds_bucket", "+Inf"): 4,
        ("seconds_count", None): 4,
        ("seconds_sum", None): 6.0,
    }


@pytest.mark.parametrize("count", [1, 1000])
def test_a_batch_counts_each_of_its_jobs(count: int) -> None:
    pgq = PgQueue("postgresql://nowhere/")
    metrics = Metrics(pgq)
    batch = [
        AttemptEnded(uuid4(), "add", "default", 1, JobStatus.SUCCEEDED, None, 0.25) for _ in range(count)
    ]

    inside.observers(pgq).emit(AttemptsEnded(batch))

    labels = {"task": "add", "queue": "default"}
    assert (
        metrics.registry.get_sample_value("pgqueue_attempts_ended_total", {**labels, "status": "succeeded"})
        == count
    )
    assert metrics.registry.get_sample_value("pgqueue_attempt_run_seconds_sum", labels) == count * 0.25


@pytest.mark.contract("P7.22")
async def test_workflows_are_measured_as_they_are_now(pgq: PgQueue) -> None:
    @pgq.task
    async def part(number: int) -> int:
        return number

    @pgq.task
    async def end(numbers: list[int]) -> int:
        return sum(numbers)

    metrics = Metrics(pgq)
    before = await samples(metrics)
    waiting = await chord([part.s(1), part.s(2)], end.s()).enqueue()
    # Its root is no job: the end of a group.
    paused = await part.map([1, 2]).enqueue()
    await pgq.pause_workflow(paused.workflow_id)
    measured = await pgq.measure_workflows()
    seen = await samples(Metrics(pgq))

    async def all_have_ended() -> bool:
        return (await pgq.measure_workflows()).live == 0

    async with pgq.worker():
        await waiting.join(60)
        await paused.join(60)
        await eventually(all_have_ended)
    after = await pgq.measure_workflows()
    ended = await samples(Metrics(pgq))

    assert before[key("pgqueue_oldest_workflow_seconds")] == 0
    assert 0 < seen[key("pgqueue_oldest_workflow_seconds")] < 3600
    assert seen[key("pgqueue_workflows_live", state="paused")] == 1
    assert seen[key("pgqueue_workflow_barriers_waiting")] == 1
    assert seen[key("pgqueue_workflows_started_total")] == 2
    assert seen[key("pgqueue_workflows_ended_total", status="succeeded")] == 0
    assert ended[key("pgqueue_workflows_started_total")] == 2
    assert ended[key("pgqueue_workflows_ended_total", status="succeeded")] == 2
    assert measured.ended == {}
    assert (measured.live, measured.paused, measured.barriers) == (2, 1, 1)
    assert measured.oldest_age is not None
    assert after == WorkflowMeasure({JobStatus.SUCCEEDED: 2}, 0, 0, None, 0, None, 0)


def limit_use(name: str, **fields: Any) -> LimitUse:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    known: dict[str, Any] = {
        "kind": "slots", "slots": 3, "rate": None, "burst": None, "when_full": "wait", "declared": 3,
        "declared_rate": None, "declared_burst": None,
        "in_use": 2, "waiting": 5, "waits_since": now, "is_exact": True, "edited_at": None,
        "actor": None, "reason": None, "changed_at": now,
    }  # fmt: skip
    return LimitUse(name=name, **{**known, **fields})


@pytest.mark.contract("P3.13")
def test_limits_are_shown_each_and_past_the_cap_together() -> None:
    limits = [
        limit_use("tenant"),
        limit_use("bank", kind="rate", slots=None, rate=20.0, burst=5, waits_since=None, waiting=0),
        limit_use("free", slots=None, waits_since=datetime(2026, 1, 31, 11, 59, tzinfo=UTC)),
    ]
    snapshot = Snapshot((), (), *NO_MORE[:3], limits, (), datetime(2026, 1, 31, 12, 1, tzinfo=UTC))

    def shown(most: int) -> dict[str, dict[str, float]]:
        return {
            family.name: {sample.labels["limit"]: sample.value for sample in family.samples}
            for family in families(snapshot, cap=Cap(), limit_cap=Cap(most))
            if family.name.startswith("pgqueue_limit_")
        }

    assert shown(3) == {
        "pgqueue_limit_slots": {"tenant": 3},
        "pgqueue_limit_rate_per_second": {"bank": 20},
        "pgqueue_limit_in_use": {"tenant": 2, "bank": 2, "free": 2},
        "pgqueue_limit_waiting_jobs": {"tenant": 5, "bank": 0, "free": 5},
        "pgqueue_limit_waiting_seconds": {"tenant": 60, "bank": 0, "free": 120},
    }
    assert shown(1)["pgqueue_limit_waiting_jobs"] == {"tenant": 5, "other": 5}
    assert shown(1)["pgqueue_limit_waiting_seconds"] == {"tenant": 60, "other": 120}


@pytest.mark.contract("P3.13")
async def test_a_scrape_shows_what_waits_for_a_limit_and_counts_what_a_full_one_refused(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)
    one = pgq.limit("one", slots=1, when_full="drop")
    tenant = pgq.limit("tenant", slots=1)

    @pgq.task(limits=[one])
    async def dropped() -> None: ...

    @pgq.task(limits=[tenant])
    async def waits() -> None: ...

    @pgq.task(ordered_by="key")
    async def in_line(key: int) -> None: ...

    for _ in range(3):
        await dropped.enqueue()
        await waits.enqueue()
        await in_line.enqueue(1)

    seen = await samples(metrics)
    assert seen[key("pgqueue_limit_waiting_jobs", limit="tenant")] == 2
    assert seen[key("pgqueue_limit_slots", limit="one")] == 1
    assert seen[key("pgqueue_ordered_waiting_jobs", group=in_line.name)] == 2
    assert seen[key("pgqueue_ordered_stopped_keys", group=in_line.name)] == 0
    assert seen[key("pgqueue_limit_waiting_seconds", limit="tenant")] > 0
    assert seen[key("pgqueue_jobs_refused_total", task=dropped.name, queue="default")] == 2
    assert seen[key("pgqueue_jobs_cancelled_total")] == 2
