"""Counts the events of this process, as an observer of them."""

from __future__ import annotations

from collections import Counter as Frequencies
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.registry import Collector

from pgqueue.app import PgQueue
from pgqueue.background.log_writer import dropped_records
from pgqueue.errors import ConfigurationError
from pgqueue.events.attempts import AttemptEnded, AttemptsEnded, AttemptsFenced, JobsClaimed
from pgqueue.events.kinds import (
    REFUSED,
    AttemptsAbandoned,
    BatchSent,
    DeadLettersEntered,
    Event,
    JobsCancelled,
    JobsEnqueued,
    JobsExpired,
    JobsRaised,
    JobsRescued,
    LoopTurned,
    StraysFound,
    WorkErrorIsolated,
)
from pgqueue.metrics import declared
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

SNOOZED: Final = ("snoozed", "rate_limited")
"""The reasons of an attempt that snoozed its job: it runs again later, and nothing has failed."""

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
    JobsRaised,
    WorkErrorIsolated,
    StraysFound,
)
"""The kinds of events that are counted. A started job has been counted when it was claimed."""


def count_events(pgq: PgQueue, registry: CollectorRegistry | None = None) -> CollectorRegistry:
    """Count the events of *pgq* in *registry*, or in a new one, from now on; return the registry.

    Raises ConfigurationError if the registry has pgqueue's metrics already.
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
            self._enqueued = declared.JOBS_ENQUEUED.counter(registry)
        except ValueError as error:
            raise ConfigurationError(
                "the registry has pgqueue's metrics already: pass a CollectorRegistry() of its own to Metrics"
            ) from error
        self._claimed = declared.JOBS_CLAIMED.counter(registry)
        self._ended = declared.ATTEMPTS_ENDED.counter(registry)
        self._retried = declared.ATTEMPTS_RETRIED.counter(registry)
        self._of_jobs: dict[type[Event], Counter] = {
            AttemptsFenced: declared.ATTEMPTS_FENCED.counter(registry),
            AttemptsAbandoned: declared.ATTEMPTS_ABANDONED.counter(registry),
            JobsCancelled: declared.JOBS_CANCELLED.counter(registry),
            JobsExpired: declared.JOBS_EXPIRED.counter(registry),
        }
        self._errors = declared.WORK_ERRORS.counter(registry)
        self._refused = declared.JOBS_REFUSED.counter(registry)
        self._raised = declared.JOBS_RAISED.counter(registry)
        self._strays = declared.STRAYS.counter(registry)
        self._rescued = declared.JOBS_RESCUED.counter(registry)
        for outcome in ("requeued", "failed"):
            # From the start: Prometheus does not see the first increase of a series that did not exist.
            self._rescued.labels(outcome)
        self._dead = declared.DEAD_LETTERS.counter(registry)
        self._waits = Histogram(declared.JOB_WAIT, WAIT_BUCKETS)
        self._runs = Histogram(declared.ATTEMPT_RUN, RUN_BUCKETS)
        self._sizes = Histogram(declared.BATCH_JOBS, SIZE_BUCKETS)
        self._latencies = Histogram(declared.BATCH_TIME, STATEMENT_BUCKETS)
        self._lags = Histogram(declared.EVENT_LOOP_LAG, LAG_BUCKETS)
        self._lags.observe((), ())
        for each in (self._waits, self._runs, self._sizes, self._latencies, self._lags):
            registry.register(each)

    def observe(self, event: Event) -> None:  # noqa: C901, PLR0912  # a case for each kind
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
                if isinstance(event, JobsCancelled) and event.reason == REFUSED:
                    for job in event.jobs:
                        self._refused.labels(*self._cap.of(job.task, job.queue)).inc()
            case JobsRescued():
                self._rescued.labels("requeued").inc(event.requeued)
                self._rescued.labels("failed").inc(len(event.failed))
            case JobsRaised():
                self._raised.labels(*self._cap.of(event.queue)).inc(sum(event.counts.values()))
            case WorkErrorIsolated():
                self._errors.labels(event.doing).inc()
            case StraysFound():
                self._strays.labels(event.kind).inc(len(event.ids))
            case DeadLettersEntered():
                self._count_dead(event.letters)
            case _:
                pass

    def _count_dead(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._dead.labels(*self._dead_cap.of(letter.task, letter.queue, letter.reason)).inc()

    def _count_ended(self, attempts: Sequence[AttemptEnded]) -> None:
        ended = Frequencies((each.task, each.queue, each.status, each.reason) for each in attempts)
        for (task, queue, status, reason), count in ended.items():
            labels = self._cap.of(task, queue)
            self._ended.labels(*labels, status.value).inc(count)
            if status is JobStatus.SCHEDULED and reason not in SNOOZED:
                self._retried.labels(*labels).inc(count)
        runs: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for each in attempts:
            # 0: the attempt ended before its handler started: the job expired, or its task is unknown.
            if each.seconds:
                runs[each.task, each.queue].append(each.seconds)
        for series, seconds in runs.items():
            self._runs.observe(self._cap.of(*series), seconds)


class WorkerGauges(Collector):
    """Gauges of the workers of this process, and what its log has dropped."""

    def __init__(self, pgq: PgQueue) -> None:
        self._pgq = pgq

    def describe(self) -> Iterable[Metric]:
        """Return the families without their values."""
        return self._families([])

    def collect(self) -> Iterable[Metric]:
        """Return the families; without live workers they have no values."""
        return self._families([worker for worker in self._pgq.workers if worker.is_alive])

    @staticmethod
    def _families(workers: Sequence[Worker]) -> Iterable[Metric]:
        slots, running, lease_age, abandoned = (
            declared.WORKER_SLOTS.gauge(),
            declared.WORKER_RUNNING.gauge(),
            declared.WORKER_LEASE_AGE.gauge(),
            declared.WORKER_ABANDONED_THREADS.gauge(),
        )
        if workers:
            slots.add_metric([], sum(worker.slots for worker in workers))
            running.add_metric([], sum(worker.running for worker in workers))
            lease_age.add_metric([], max(worker.lease_age or 0.0 for worker in workers))
            abandoned.add_metric([], sum(worker.abandoned_threads for worker in workers))
        return slots, running, lease_age, abandoned, declared.LOG_RECORDS_DROPPED.counted(dropped_records())
