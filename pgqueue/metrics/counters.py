"""What happens in this process: an observer that counts its events."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.events.kinds import (
    AttemptEnded,
    AttemptsAbandoned,
    AttemptsEnded,
    AttemptsFenced,
    BatchSent,
    DeadLettersEntered,
    Event,
    JobsCancelled,
    JobsClaimed,
    JobsEnqueued,
    JobsExpired,
    JobsRescued,
    LoopTurned,
)
from pgqueue.metrics.histograms import Histogram
from pgqueue.metrics.labels import Cap
from pgqueue.model.dead_letters import DeadLetter
from pgqueue.model.jobs import JobStatus
from pgqueue.worker import Worker

WAIT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600)
RUN_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
STATEMENT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
"""Upper bounds in seconds."""
SIZE_BUCKETS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Upper bounds in jobs."""

SNOOZED: Final = "snoozed"
"""The reason of an attempt that gave itself back: its job runs again, and nothing has failed."""

HEARD: Final = (
    JobsEnqueued,
    JobsClaimed,
    BatchSent,
    LoopTurned,
    AttemptsEnded,
    AttemptsFenced,
    AttemptsAbandoned,
    JobsRescued,
    DeadLettersEntered,
    JobsCancelled,
    JobsExpired,
)
"""The kinds of events that are counted. A started job was counted as claimed."""


def count_events(pgq: PgQueue, registry: CollectorRegistry | None = None) -> CollectorRegistry:
    """Count the events of *pgq* in *registry*, or a new one, from now on; return it.

    Raises ConfigurationError if the registry has such metrics already.
    """
    registry = CollectorRegistry() if registry is None else registry
    counts = EventCounts(registry)
    registry.register(WorkerGauges(pgq))
    pgq.observe(counts.observe, *HEARD)
    return registry


class EventCounts:
    """Counters and histograms of events: an observer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._cap = Cap()
        self._dead_cap = Cap()
        try:
            self._enqueued = self._counter(
                registry, "pgqueue_jobs_enqueued_total", "Jobs enqueued by this process", "task", "queue"
            )
        except ValueError as error:
            raise ConfigurationError(
                "the registry has pgqueue's metrics already: give Metrics a CollectorRegistry() of its own"
            ) from error
        self._claimed = self._counter(
            registry, "pgqueue_jobs_claimed_total", "Jobs claimed by workers of this process", "task", "queue"
        )
        self._ended = self._counter(
            registry,
            "pgqueue_attempts_ended_total",
            "Attempts whose outcome was committed, by the status that the job got",
            *("task", "queue", "status"),
        )
        self._retried = self._counter(
            registry,
            "pgqueue_attempts_retried_total",
            "Attempts that failed and are followed by another",
            *("task", "queue"),
        )
        self._of_jobs: dict[type[Event], Counter] = {
            kind: self._counter(registry, name, help_text)
            for kind, name, help_text in (
                (
                    AttemptsFenced,
                    "pgqueue_attempts_fenced_total",
                    "Outcomes dropped because the lease was lost",
                ),
                (
                    AttemptsAbandoned,
                    "pgqueue_attempts_abandoned_total",
                    "Attempts given up on: their handlers did not end when cancelled, and go on for nothing",
                ),
                (
                    JobsCancelled,
                    "pgqueue_jobs_cancelled_total",
                    "Waiting jobs that this process cancelled",
                ),
                (
                    JobsExpired,
                    "pgqueue_jobs_expired_total",
                    "Jobs that expired while no worker came to them",
                ),
            )
        }
        self._rescued = self._counter(
            registry, "pgqueue_jobs_rescued_total", "Jobs taken back from lost workers", "outcome"
        )
        for outcome in ("requeued", "failed"):
            # There from the start: a rise from nothing is none to Prometheus.
            self._rescued.labels(outcome)
        self._dead = self._counter(
            registry,
            "pgqueue_dead_letters_total",
            "Jobs that have failed for good, by what this process's workers wrote",
            *("task", "queue", "reason"),
        )
        self._waits = Histogram(
            "pgqueue_job_wait_seconds", "Time from ready to claimed", ["task", "queue"], WAIT_BUCKETS
        )
        self._runs = Histogram(
            "pgqueue_attempt_run_seconds", "Run time of handlers", ["task", "queue"], RUN_BUCKETS
        )
        self._sizes = Histogram(
            "pgqueue_batch_jobs", "Jobs that one claim, finish or enqueue took along", ["verb"], SIZE_BUCKETS
        )
        self._latencies = Histogram(
            "pgqueue_batch_seconds",
            "Time that one claim, finish or enqueue took in the database",
            ["verb"],
            STATEMENT_BUCKETS,
        )
        self._lags = Histogram(
            "pgqueue_event_loop_lag_seconds",
            "Time that a worker's event loop took to turn, asked twice a second",
            [],
            LAG_BUCKETS,
        )
        self._lags.observe((), ())
        for each in (self._waits, self._runs, self._sizes, self._latencies, self._lags):
            registry.register(each)

    @staticmethod
    def _counter(registry: CollectorRegistry, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=registry)

    def observe(self, event: Event) -> None:  # noqa: C901  # a case for each kind
        """Count *event*."""
        match event:
            case JobsEnqueued():
                for series, count in event.counts.items():
                    self._enqueued.labels(*self._cap.of(*series)).inc(count)
            case JobsClaimed():
                for series, waited in event.waits.items():
                    labels = self._cap.of(*series)
                    self._claimed.labels(*labels).inc(len(waited))
                    self._waits.observe(labels, waited)
            case BatchSent():
                self._sizes.observe((event.verb,), (event.size,))
                self._latencies.observe((event.verb,), (event.seconds,))
            case LoopTurned():
                self._lags.observe((), (event.lag,))
            case AttemptsEnded():
                self._count_ended(event.attempts)
            case AttemptsFenced() | AttemptsAbandoned() | JobsCancelled() | JobsExpired():
                self._of_jobs[type(event)].inc(len(event.job_ids))
            case JobsRescued():
                self._rescued.labels("requeued").inc(event.requeued)
                self._rescued.labels("failed").inc(len(event.failed))
            case DeadLettersEntered():
                self._count_dead(event.letters)
            case _:
                pass

    def _count_dead(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._dead.labels(*self._dead_cap.of(letter.task, letter.queue, letter.reason)).inc()

    def _count_ended(self, attempts: Sequence[AttemptEnded]) -> None:
        ended = Tally((each.task, each.queue, each.status, each.reason) for each in attempts)
        for (task, queue, status, reason), count in ended.items():
            labels = self._cap.of(task, queue)
            self._ended.labels(*labels, status.value).inc(count)
            if status is JobStatus.SCHEDULED and reason != SNOOZED:
                self._retried.labels(*labels).inc(count)
        runs: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for each in attempts:
            # 0: it ended before its handler started (expired, or of an unknown task).
            if each.seconds:
                runs[each.task, each.queue].append(each.seconds)
        for series, seconds in runs.items():
            self._runs.observe(self._cap.of(*series), seconds)


class WorkerGauges(Collector):
    """How the workers of this process are now."""

    def __init__(self, pgq: PgQueue) -> None:
        self._pgq = pgq

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the families without their values."""
        return self._families([])

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return what there is to say of workers, if there are any."""
        return self._families([worker for worker in self._pgq.workers if worker.is_alive])

    @staticmethod
    def _families(workers: Sequence[Worker]) -> Iterable[GaugeMetricFamily]:
        measures: list[tuple[str, str, Callable[[], float]]] = [
            (
                "pgqueue_worker_slots",
                "Handlers that can run at once in this process",
                lambda: sum(worker.slots for worker in workers),
            ),
            (
                "pgqueue_worker_running",
                "Handlers that run now in this process",
                lambda: sum(worker.running for worker in workers),
            ),
            (
                "pgqueue_worker_lease_age_seconds",
                "Time since this process renewed its lease; the oldest, if it has several",
                lambda: max(worker.lease_age or 0.0 for worker in workers),
            ),
        ]
        for name, help_text, value in measures:
            family = GaugeMetricFamily(name, help_text)
            if workers:
                family.add_metric([], value())
            yield family
