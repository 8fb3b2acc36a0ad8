"""What Prometheus is told."""

from __future__ import annotations

from uuid import uuid4

import anyio
import pytest
from conftest import eventually
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pgqueue import PgQueue
from pgqueue.events import AttemptEnded, AttemptsFenced, JobsClaimed, JobsRescued
from pgqueue.jobs import JobStatus
from pgqueue.metrics import Histogram, Metrics


async def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
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

    assert seen[key("pgqueue_jobs_enqueued_total")] == 3
    assert seen[key("pgqueue_jobs_claimed_total")] == 3
    assert seen[key("pgqueue_attempts_ended_total", task="add", queue="sums", status="succeeded")] == 2
    assert seen[key("pgqueue_attempts_ended_total", task="fail", queue="default", status="failed")] == 1
    assert seen[key("pgqueue_job_wait_seconds_count")] == 3
    assert seen[key("pgqueue_attempt_run_seconds_count", task="add", queue="sums")] == 2
    assert seen[key("pgqueue_attempt_run_seconds_count", task="fail", queue="default")] == 1


async def test_queues_are_measured_at_each_scrape(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)

    @pgq.task(queue="mail")
    async def send() -> None: ...

    jobs = await pgq.enqueue_many([send.s(), send.s()])
    full = await samples(metrics)
    for job in jobs:
        await job.cancel()
    empty = await samples(metrics)

    assert full[key("pgqueue_database_up")] == 1
    assert full[key("pgqueue_jobs_pending", queue="mail")] == 2
    assert full[key("pgqueue_oldest_pending_seconds", queue="mail")] > 0
    assert empty[key("pgqueue_jobs_pending", queue="mail")] == 0
    assert empty[key("pgqueue_oldest_pending_seconds", queue="mail")] == 0


async def test_a_job_that_never_ran_has_no_run_time(pgq: PgQueue) -> None:
    metrics = Metrics(pgq)

    @pgq.task
    async def never() -> None: ...

    job = await never.options(expires=3600).enqueue()
    async with pgq._database.acquire() as connection:
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

    pgq._observers.emit(AttemptsFenced([uuid4(), uuid4()]))
    pgq._observers.emit(JobsRescued(requeued=3, failed=[uuid4()], worker="lost"))
    seen = await samples(metrics)

    assert seen[key("pgqueue_attempts_fenced_total")] == 2
    assert seen[key("pgqueue_jobs_rescued_total", outcome="requeued")] == 3
    assert seen[key("pgqueue_jobs_rescued_total", outcome="failed")] == 1


async def test_metrics_go_into_a_registry_that_is_given(pgq: PgQueue) -> None:
    registry = CollectorRegistry()
    Metrics(pgq, registry=registry)

    pgq._observers.emit(JobsClaimed(lambda: [0.5]))

    assert registry.get_sample_value("pgqueue_jobs_claimed_total") == 1
    assert registry.get_sample_value("pgqueue_job_wait_seconds_sum") == 0.5


async def test_two_sets_of_metrics_do_not_disturb_each_other(pgq: PgQueue) -> None:
    one, other = Metrics(pgq), Metrics(pgq)

    pgq._observers.emit(JobsClaimed(lambda: [0.5]))

    assert (await samples(one))[key("pgqueue_jobs_claimed_total")] == 1
    assert (await samples(other))[key("pgqueue_jobs_claimed_total")] == 1


def test_a_value_on_a_bound_is_counted_below_it() -> None:
    histogram = Histogram("seconds", "...", ["queue"], bounds=(1, 2))

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

    metrics._count_ended(batch)

    labels = {"task": "add", "queue": "default"}
    assert (
        metrics.registry.get_sample_value("pgqueue_attempts_ended_total", {**labels, "status": "succeeded"})
        == count
    )
    assert metrics.registry.get_sample_value("pgqueue_attempt_run_seconds_sum", labels) == count * 0.25
