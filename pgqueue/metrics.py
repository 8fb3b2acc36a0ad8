"""Prometheus metrics of one process: an observer of its events, and what the database's queues hold."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, assert_never

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from pgqueue.app import PgQueue
from pgqueue.database import CONNECTION_ERRORS
from pgqueue.dead_letters import DeadLetter
from pgqueue.errors import DatabaseUnavailableError
from pgqueue.events import (
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
    JobsStarted,
    LoopTurned,
)

WAIT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600)
RUN_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Upper bounds in seconds."""


class Histogram(Collector):
    """A histogram that takes a batch at a time.

    prometheus_client's own takes 1.4 to 2.9 microseconds a value, of the 20 or so that a job costs in all;
    this one 0.3.
    """

    def __init__(self, name: str, help_text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._help = help_text
        self._labels = labels
        self._bounds = bounds
        self._series: dict[tuple[str, ...], list[int]] = {}
        self._sums: Tally[tuple[str, ...]] = Tally()

    def observe(self, labels: tuple[str, ...], values: Iterable[float]) -> None:
        """Count *values* in the series with *labels*."""
        counts = self._series.get(labels)
        if counts is None:
            counts = self._series[labels] = [0] * (len(self._bounds) + 1)
        total = 0.0
        for value in values:
            counts[bisect_left(self._bounds, value)] += 1
            total += value
        self._sums[labels] += total  # type: ignore[assignment]  # a Counter adds floats as well

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return the one family of this histogram."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        limits = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        # A copy: the scrape may be in another thread than the worker.
        for labels, counts in list(self._series.items()):
            buckets = list(zip(limits, accumulate(counts), strict=True))
            family.add_metric(labels, buckets, self._sums[labels])
        yield family


class Metrics:
    """Counts what happens in this process from now on, and measures the queues at each scrape.

    *registry*: where the metrics are registered; one of their own if not given.
    """

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self, pgq: PgQueue, *, registry: CollectorRegistry | None = None) -> None:
        self._pgq = pgq
        self.registry = registry = CollectorRegistry() if registry is None else registry
        self._enqueued = Counter(
            "pgqueue_jobs_enqueued_total", "Jobs enqueued by this process", registry=registry
        )
        self._claimed = Counter(
            "pgqueue_jobs_claimed_total", "Jobs claimed by workers of this process", registry=registry
        )
        self._ended = Counter(
            "pgqueue_attempts_ended_total",
            "Attempts whose outcome was committed, by the status that the job got",
            ["task", "queue", "status"],
            registry=registry,
        )
        self._fenced = Counter(
            "pgqueue_attempts_fenced_total", "Outcomes dropped because the lease was lost", registry=registry
        )
        self._abandoned = Counter(
            "pgqueue_attempts_abandoned_total",
            "Attempts given up because their handlers did not end when cancelled: they go on for nothing",
            registry=registry,
        )
        self._expired = Counter(
            "pgqueue_jobs_expired_total", "Jobs that expired while no worker came to them", registry=registry
        )
        self._cancelled = Counter(
            "pgqueue_jobs_cancelled_total", "Waiting jobs that this process cancelled", registry=registry
        )
        self._rescued = Counter(
            "pgqueue_jobs_rescued_total", "Jobs taken back from lost workers", ["outcome"], registry=registry
        )
        self._dead = Counter(
            "pgqueue_dead_letters_total",
            "Jobs that have failed for good, by what this process's workers wrote",
            ["task", "queue", "reason"],
            registry=registry,
        )
        self._waits = Histogram(
            "pgqueue_job_wait_seconds", "Time from ready to claimed", [], bounds=WAIT_BUCKETS
        )
        self._runs = Histogram(
            "pgqueue_attempt_run_seconds", "Run time of handlers", ["task", "queue"], bounds=RUN_BUCKETS
        )
        registry.register(self._waits)
        registry.register(self._runs)
        self._pending = Gauge(
            "pgqueue_jobs_pending",
            "Jobs that can run now; counted up to a cap",
            ["queue"],
            registry=registry,
        )
        self._oldest = Gauge(
            "pgqueue_oldest_pending_seconds",
            "For how long the job has waited that is first in its queue",
            ["queue"],
            registry=registry,
        )
        self._is_up = Gauge(
            "pgqueue_database_up", "Whether the database answered at this scrape", registry=registry
        )
        pgq.observe(self._observe)

    async def render(self) -> bytes:
        """Measure, and return all metrics in the text format that `content_type` names."""
        await self.measure()
        return generate_latest(self.registry)

    async def measure(self) -> None:
        """Ask the database what the queues hold. Without an answer, nothing is said of them."""
        try:
            queues = await self._pgq.measure()
        except (DatabaseUnavailableError, *CONNECTION_ERRORS):
            queues = None
        self._is_up.set(queues is not None)
        self._pending.clear()
        self._oldest.clear()
        for queue in queues or ():
            self._pending.labels(queue.queue).set(queue.pending.value)
            self._oldest.labels(queue.queue).set(queue.oldest_age or 0.0)

    def _observe(self, event: Event) -> None:  # noqa: C901  # a case for each kind
        match event:
            case JobsEnqueued():
                self._enqueued.inc(event.count)
            case JobsClaimed():
                waited = event.waited
                self._claimed.inc(len(waited))
                self._waits.observe((), waited)
            case AttemptsEnded():
                self._count_ended(event.attempts)
            case AttemptsFenced():
                self._fenced.inc(len(event.job_ids))
            case AttemptsAbandoned():
                self._abandoned.inc(len(event.job_ids))
            case JobsRescued():
                self._rescued.labels("requeued").inc(event.requeued)
                self._rescued.labels("failed").inc(len(event.failed))
            case BatchSent() | LoopTurned():
                pass
            case JobsStarted():
                # Counted as claimed.
                pass
            case DeadLettersEntered():
                self._count_dead(event.letters)
            case JobsCancelled():
                self._cancelled.inc(len(event.job_ids))
            case JobsExpired():
                self._expired.inc(len(event.job_ids))
            case _:
                assert_never(event)

    def _count_dead(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._dead.labels(letter.task, letter.queue, letter.reason).inc()

    def _count_ended(self, attempts: Sequence[AttemptEnded]) -> None:
        ended = Tally((each.task, each.queue, each.status.value) for each in attempts)
        for labels, count in ended.items():
            self._ended.labels(*labels).inc(count)
        runs: dict[tuple[str, str], list[float]] = {}
        for each in attempts:
            # 0: it ended before its handler started (expired, or of an unknown task).
            if each.seconds:
                runs.setdefault((each.task, each.queue), []).append(each.seconds)
        for series, seconds in runs.items():
            self._runs.observe(series, seconds)
