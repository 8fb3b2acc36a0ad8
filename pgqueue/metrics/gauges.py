"""Gauges of the database's queues and workers, from one snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from pgqueue.metrics import declared
from pgqueue.metrics.labels import Cap
from pgqueue.model.jobs import TERMINAL
from pgqueue.model.limiters import LimiterUse
from pgqueue.model.limits import LimitUse
from pgqueue.model.measures import QueueMeasure, WorkerMeasure
from pgqueue.model.ordering import OrderedGroup
from pgqueue.model.schedules import ScheduleMeasure
from pgqueue.model.workflows import WorkflowMeasure

QUEUES: Final = (
    *(declared.QUEUE_JOBS, declared.QUEUE_OLDEST_PENDING, declared.QUEUE_ENQUEUED),
    *(declared.QUEUE_FINISHED, declared.QUEUE_DRAIN, declared.QUEUE_PAUSED),
    declared.QUEUE_CLAIMED,
)
WORKERS: Final = (
    *(declared.WORKERS_ALIVE, declared.WORKERS_LEASE_AGE, declared.WORKERS_LOOP_LAG),
    *(declared.LONGEST_RUNNING_JOB, declared.OLDEST_DEAD_LETTER),
)

WORKFLOWS: Final = (
    *(declared.WORKFLOWS_LIVE, declared.OLDEST_WORKFLOW, declared.WORKFLOWS_STALLED),
    *(declared.STALLED_WORKFLOW, declared.WORKFLOW_BARRIERS),
)

LIMITS: Final = (
    *(declared.LIMIT_SLOTS, declared.LIMIT_RATE, declared.LIMIT_IN_USE),
    *(declared.LIMIT_WAITING, declared.LIMIT_WAIT),
)
ORDERED: Final = (declared.ORDERED_WAITING, declared.ORDERED_STOPPED)
LIMITERS: Final = (declared.LIMITERS_HELD, declared.LIMITERS_WAITING)
SCHEDULES: Final = (declared.SCHEDULES, declared.SCHEDULE_OVERDUE)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The database's answer: counts, ages and rates, without single jobs."""

    queues: Sequence[QueueMeasure]
    workers: Sequence[WorkerMeasure]
    oldest_dead_letter: float | None
    """Its age in seconds."""
    workflows: WorkflowMeasure
    schedules: ScheduleMeasure
    limits: Sequence[LimitUse]
    groups: Sequence[OrderedGroup]
    now: datetime
    """The database's time."""
    limiters: Sequence[LimiterUse] = ()


def families(snapshot: Snapshot | None, *, cap: Cap, limit_cap: Cap) -> list[Metric]:
    """Return the metrics of *snapshot*; without a snapshot they have no series.

    *cap*, *limit_cap*: bound the names of queues and of limits.
    """
    of_queues, of_workers = [each.gauge() for each in QUEUES], [each.gauge() for each in WORKERS]
    of_workflows = [each.gauge() for each in WORKFLOWS]
    schedules, overdue = [each.gauge() for each in SCHEDULES]
    of_limits = [each.gauge() for each in LIMITS]
    of_groups = [each.gauge() for each in ORDERED]
    of_limiters = [each.gauge() for each in LIMITERS]
    started, ended = declared.WORKFLOWS_STARTED.counted(), declared.WORKFLOWS_ENDED.counted()
    if snapshot is not None:
        _add_queues(of_queues, snapshot.queues, cap)
        _add_workers(of_workers, snapshot)
        _add_workflows(of_workflows, snapshot.workflows)
        for state in ("active", "paused", "failing"):
            schedules.add_metric([state], getattr(snapshot.schedules, state))
        overdue.add_metric([], snapshot.schedules.overdue)
        _add_limits(of_limits, snapshot, limit_cap)
        _add_groups(of_groups, snapshot.groups, limit_cap)
        _add_limiters(of_limiters, snapshot.limiters)
        started.add_metric([], snapshot.workflows.started)
        # From the start: Prometheus does not see the first increase of a series that did not exist.
        for status in sorted(TERMINAL):
            ended.add_metric([status.value], snapshot.workflows.ended.get(status, 0))
    return [
        *of_queues,
        *of_workers,
        started,
        ended,
        *of_workflows,
        schedules,
        overdue,
        *of_limits,
        *of_groups,
        *of_limiters,
    ]


def _add_queues(series: Sequence[GaugeMetricFamily], queues: Iterable[QueueMeasure], cap: Cap) -> None:
    jobs, oldest, enqueued, finished, drain, paused, claimed = series
    folded: dict[str, list[QueueMeasure]] = {}
    for queue in queues:
        [label] = cap.of(queue.queue)
        folded.setdefault(label, []).append(queue)
    # Usually one queue per label. The queues past the cap share one.
    for label, members in folded.items():
        for status in ("pending", "scheduled", "retrying", "blocked", "running", "failed"):
            jobs.add_metric([label, status], sum(getattr(queue, status).value for queue in members))
        oldest.add_metric([label], max(queue.oldest_age or 0.0 for queue in members))
        enqueued.add_metric([label], sum(queue.enqueued_rate for queue in members))
        finished.add_metric([label], sum(queue.finished_rate for queue in members))
        claimed.add_metric([label], sum(queue.claimed.value for queue in members))
        paused.add_metric([label], max(float(queue.is_paused) for queue in members))
        drains = [queue.drain for queue in members if queue.drain is not None]
        if drains:
            drain.add_metric([label, "low"], max(each.low for each in drains))
            drain.add_metric([label, "likely"], max(each.likely for each in drains))
            drain.add_metric([label, "high"], max(each.high for each in drains))


def _add_workers(series: Sequence[GaugeMetricFamily], snapshot: Snapshot) -> None:
    alive, lease_age, lag, longest, dead = series
    workers = [worker for worker in snapshot.workers if worker.is_alive]
    alive.add_metric([], len(workers))
    lease_age.add_metric([], max((worker.lease_age for worker in snapshot.workers), default=0.0))
    lag.add_metric([], max((worker.loop_lag or 0.0 for worker in workers), default=0.0))
    seconds = (job.seconds for worker in snapshot.workers for job in worker.jobs)
    longest.add_metric([], max(seconds, default=0.0))
    dead.add_metric([], snapshot.oldest_dead_letter or 0.0)


def _add_workflows(series: Sequence[GaugeMetricFamily], workflows: WorkflowMeasure) -> None:
    live, oldest, stalled, stalled_age, barriers = series
    live.add_metric(["active"], workflows.live - workflows.paused)
    live.add_metric(["paused"], workflows.paused)
    oldest.add_metric([], workflows.oldest_age or 0.0)
    stalled.add_metric([], workflows.stalled)
    stalled_age.add_metric([], workflows.stalled_age or 0.0)
    barriers.add_metric([], workflows.barriers)


def _add_limits(series: Sequence[GaugeMetricFamily], snapshot: Snapshot, cap: Cap) -> None:
    slots, rate, in_use, waiting, waits = series
    folded: dict[str, list[LimitUse]] = {}
    for limit in snapshot.limits:
        [label] = cap.of(limit.name)
        folded.setdefault(label, []).append(limit)
    for label, members in folded.items():
        if of_kind := [each.slots for each in members if each.kind == "slots" and each.slots is not None]:
            slots.add_metric([label], max(of_kind))
        if rates := [each.rate for each in members if each.rate is not None]:
            rate.add_metric([label], max(rates))
        in_use.add_metric([label], sum(each.in_use for each in members))
        waiting.add_metric([label], sum(each.waiting for each in members))
        since = [each.waits_since for each in members if each.waits_since is not None]
        seconds = (snapshot.now - min(since)).total_seconds() if since else 0.0
        waits.add_metric([label], max(0.0, seconds))


def _add_limiters(series: Sequence[GaugeMetricFamily], limiters: Sequence[LimiterUse]) -> None:
    held, waiting = series
    for kind in ("slots", "bucket", "window"):
        of_kind = [each for each in limiters if each.kind == kind]
        waiting.add_metric([kind], sum(each.waiting for each in of_kind))
        if kind == "slots":
            held.add_metric([kind], sum(each.held for each in of_kind))


def _add_groups(series: Sequence[GaugeMetricFamily], groups: Iterable[OrderedGroup], cap: Cap) -> None:
    waiting, stopped = series
    jobs: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    for group in groups:
        [label] = cap.of(group.name)
        jobs[label] += group.waiting
        keys[label] += group.stopped
    for label, number in jobs.items():
        waiting.add_metric([label], number)
        stopped.add_metric([label], keys[label])
