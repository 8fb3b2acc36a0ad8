"""What the database's queues and workers look like, as gauges of one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily

from pgqueue.metrics.labels import Cap
from pgqueue.model.measures import QueueMeasure, WorkerMeasure

Add = Callable[[Sequence[str], float], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database said. Counts, ages and rates; nothing of single jobs."""

    queues: Sequence[QueueMeasure]
    workers: Sequence[WorkerMeasure]
    oldest_dead_letter: float | None
    """Its age in seconds."""


def families(snapshot: Snapshot | None, *, cap: Cap) -> list[GaugeMetricFamily]:
    """Return the gauges of *snapshot*; without their series if there is none."""
    series = [*_queue_families(), *_fleet_families()]
    if snapshot is not None:
        _add_queues(series, snapshot.queues, cap)
        _add_fleet(series, snapshot)
    return series


def _queue_families() -> list[GaugeMetricFamily]:
    return [
        GaugeMetricFamily(
            "pgqueue_queue_jobs",
            "Jobs of a queue by status; retrying: scheduled for another attempt; large counts are estimates",
            labels=["queue", "status"],
        ),
        GaugeMetricFamily(
            "pgqueue_queue_oldest_pending_seconds",
            "For how long the job has waited that is first in its queue",
            labels=["queue"],
        ),
        GaugeMetricFamily(
            "pgqueue_queue_enqueued_per_second",
            "Rate of the last minutes, by all processes",
            labels=["queue"],
        ),
        GaugeMetricFamily(
            "pgqueue_queue_finished_per_second",
            "Rate of the last minutes, by all processes",
            labels=["queue"],
        ),
        GaugeMetricFamily(
            "pgqueue_queue_drain_seconds",
            "Time until the queue would be empty if all went on as lately; estimate: low, likely, high",
            labels=["queue", "estimate"],
        ),
        GaugeMetricFamily(
            "pgqueue_queue_paused", "Whether the queue is paused: nothing of it starts", labels=["queue"]
        ),
    ]


def _fleet_families() -> list[GaugeMetricFamily]:
    return [
        GaugeMetricFamily("pgqueue_workers_alive", "Workers, anywhere, whose lease holds"),
        GaugeMetricFamily(
            "pgqueue_workers_lease_age_seconds", "Time since the lease was renewed that was renewed first"
        ),
        GaugeMetricFamily(
            "pgqueue_workers_event_loop_lag_seconds",
            "Time that the slowest event loop of all workers lately took to turn",
        ),
        GaugeMetricFamily(
            "pgqueue_longest_running_job_seconds", "For how long the job has run that has run longest"
        ),
        GaugeMetricFamily(
            "pgqueue_oldest_dead_letter_seconds", "For how long the oldest dead letter has been one; 0: none"
        ),
    ]


def _add_queues(series: Sequence[GaugeMetricFamily], queues: Iterable[QueueMeasure], cap: Cap) -> None:
    jobs, oldest, enqueued, finished, drain, paused = series[:6]
    folded: dict[str, list[QueueMeasure]] = {}
    for queue in queues:
        [label] = cap.of(queue.queue)
        folded.setdefault(label, []).append(queue)
    # Usually one queue each; those past the cap are seen as one.
    for label, members in folded.items():
        for status in ("pending", "scheduled", "retrying", "blocked", "running", "failed"):
            jobs.add_metric([label, status], sum(getattr(queue, status).value for queue in members))
        oldest.add_metric([label], max(queue.oldest_age or 0.0 for queue in members))
        enqueued.add_metric([label], sum(queue.enqueued_rate for queue in members))
        finished.add_metric([label], sum(queue.finished_rate for queue in members))
        paused.add_metric([label], max(float(queue.is_paused) for queue in members))
        drains = [queue.drain for queue in members if queue.drain is not None]
        if drains:
            drain.add_metric([label, "low"], max(each.low for each in drains))
            drain.add_metric([label, "likely"], max(each.likely for each in drains))
            drain.add_metric([label, "high"], max(each.high for each in drains))


def _add_fleet(series: Sequence[GaugeMetricFamily], snapshot: Snapshot) -> None:
    alive, lease_age, lag, longest, dead = series[6:]
    workers = [worker for worker in snapshot.workers if worker.is_alive]
    alive.add_metric([], len(workers))
    lease_age.add_metric([], max((worker.lease_age for worker in snapshot.workers), default=0.0))
    lag.add_metric([], max((worker.loop_lag or 0.0 for worker in workers), default=0.0))
    seconds = (job.seconds for worker in snapshot.workers for job in worker.jobs)
    longest.add_metric([], max(seconds, default=0.0))
    dead.add_metric([], snapshot.oldest_dead_letter or 0.0)
