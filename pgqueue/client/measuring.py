"""Measures of a running system: queues, workers and their history. The cost does not grow with the queues."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Final

from pgqueue.client.parts import Parts
from pgqueue.errors import InvalidFilterError
from pgqueue.model.checks import shown
from pgqueue.model.estimates import BUCKETS, buckets, estimate_drain, percentiles
from pgqueue.model.filters import JobFilter, check_criteria
from pgqueue.model.measures import (
    Count,
    Percentiles,
    Period,
    QueueMeasure,
    TaskCounts,
    TaskMeasure,
    TaskPeriod,
    WorkerMeasure,
)
from pgqueue.store import Countable, DeadCount, Done, Estimate, LaneCounts, TaskDone

CAP: Final = 10_000
"""Jobs of a lane that are counted one by one."""
MOST_RUNNING: Final = 50_000
"""Running jobs that are read, at most."""
SAMPLE_BLOCKS: Final = 300
"""Blocks of a table that an estimate reads: it is within about 6 %."""
WINDOW: Final = 300.0
"""Seconds that rates and percentiles cover."""
STRETCH: Final = 30.0
"""Seconds of one stretch, whose rates are compared with those of the others."""
LEAST: Final = 10.0
"""The shortest time that a rate covers, in seconds: processes write statistics about that often."""
MAX_SPAN: Final = 24 * 3600.0
MAX_POINTS: Final = 1440
MAX_WORKERS: Final = 1000
MAX_TASK_SPAN: Final = 30 * 86_400.0
TASK_LOOKS: Final = 20_000
"""Jobs that a measure of one task looks at, at most."""


class MeasureInterface(Parts):
    """What users can measure."""

    async def measure(self) -> list[QueueMeasure]:
        """Return the size and the rates of each queue, ordered by name.

        Above 10,000 jobs in a lane (less if there are many lanes) a count is an estimate. Of more than 1,000
        lanes (queues at a priority), those that workers serve or that are paused come first, then others by
        name: names that clients make up cost no more than that.
        """
        store = self._store
        async with self._database.acquire() as connection:
            lanes = await store.measure(connection, CAP, MOST_RUNNING)
            dead = await store.count_dead_letters(connection, CAP)
            estimates: Sequence[Estimate] = ()
            if capped := _capped(lanes, dead):
                estimates = await store.estimate(connection, SAMPLE_BLOCKS, capped)
            _, seconds = await store.read_stat_span(connection, WINDOW)
            done = await store.read_stats(connection, WINDOW, STRETCH, queue=None, by_queue=True)
        by_queue: defaultdict[str, list[LaneCounts]] = defaultdict(list)
        for lane in lanes:
            by_queue[lane.queue].append(lane)
        done_by: defaultdict[str | None, list[Done]] = defaultdict(list)
        for each in done:
            done_by[each.queue].append(each)
        failed = {each.queue: each for each in dead}
        return [
            _measure(queue, by_queue[queue], failed.get(queue), estimates, done_by[queue], seconds)
            # One that was removed is shown while it has dead letters.
            for queue in sorted(by_queue.keys() | {each.queue for each in dead if each.letters})
        ]

    async def list_workers(self, *, jobs: int = 10) -> list[WorkerMeasure]:
        """Return the workers that hold a lease, at most 1000, each with up to *jobs* of its running jobs."""
        if isinstance(jobs, bool) or not isinstance(jobs, int) or not 0 <= jobs <= CAP:
            raise InvalidFilterError(
                f"list_workers: jobs must be a number from 0 to {CAP}, got {shown(jobs)}"
            )
        async with self._database.acquire() as connection:
            return await self._store.list_workers(
                connection, most_running=MOST_RUNNING, jobs=jobs, limit=MAX_WORKERS
            )

    async def history(
        self, queue: str | None = None, *, span: float = 3600, points: int = 60
    ) -> list[Period]:
        """Return what happened in each of *points* stretches of the last *span* seconds, oldest first.

        For one *queue*, or for all. Statistics are written every ten seconds, and kept for 24 hours.
        Raises InvalidFilterError.
        """
        if not (isinstance(span, int | float) and 1 <= span <= MAX_SPAN):
            raise InvalidFilterError(
                f"history: span must be from 1 to {MAX_SPAN:g} seconds, got {shown(span)}"
            )
        if not (isinstance(points, int) and 1 <= points <= MAX_POINTS):
            raise InvalidFilterError(f"history: points must be from 1 to {MAX_POINTS}, got {shown(points)}")
        if queue is not None:
            check_criteria({"queue": queue})
        width = span / points
        async with self._database.acquire() as connection:
            now, _ = await self._store.read_stat_span(connection, span)
            done = await self._store.read_stats(connection, span, width, queue=queue, by_queue=False)
        by_stretch: defaultdict[int, list[Done]] = defaultdict(list)
        for each in done:
            by_stretch[min(each.place, points - 1)].append(each)
        return [
            Period(
                at=now - timedelta(seconds=(stretch + 1) * width),
                seconds=width,
                enqueued=_sum(by_stretch[stretch], "enqueued"),
                claimed=_sum(by_stretch[stretch], "claimed"),
                succeeded=_sum(by_stretch[stretch], "succeeded"),
                failed=_sum(by_stretch[stretch], "failed"),
                retried=_sum(by_stretch[stretch], "retried"),
                wait=percentiles(
                    _totals(each.waits for each in by_stretch[stretch]),
                    _first(each.first_wait for each in by_stretch[stretch]),
                ),
                run=percentiles(
                    _totals(each.runs for each in by_stretch[stretch]),
                    _first(each.first_run for each in by_stretch[stretch]),
                ),
            )
            for stretch in reversed(range(points))
        ]

    async def measure_task(self, task: str, /, *, span: float = 86_400, points: int = 48) -> TaskMeasure:
        """Return what became of the jobs of *task* that were created in the last *span* seconds.

        In all, and in each of *points* stretches, oldest first. At most the 20,000 newest jobs of all tasks
        are looked at: `is_whole` says whether those are all of the span. Jobs whose ids have no time in them
        may be left out. *span*: from 1 second to 30 days. Raises InvalidFilterError.
        """
        if not (isinstance(span, int | float) and 1 <= span <= MAX_TASK_SPAN):
            raise InvalidFilterError(
                f"measure_task: span must be from 1 to {MAX_TASK_SPAN:g} seconds, got {shown(span)}"
            )
        if isinstance(points, bool) or not isinstance(points, int) or not 1 <= points <= MAX_POINTS:
            raise InvalidFilterError(
                f"measure_task: points must be from 1 to {MAX_POINTS}, got {shown(points)}"
            )
        check_criteria({"task": task})
        async with self._database.acquire() as connection:
            now, _ = await self._store.read_stat_span(connection, 1)
            window = JobFilter(
                created_after=now - timedelta(seconds=span), created_before=now + timedelta(days=1)
            ).window
            rows = await self._store.measure_task(
                connection, task, span, span / points, looks=TASK_LOOKS, window=window
            )
        return _task_measure(task, span, points, rows)


def _task_measure(task: str, span: float, points: int, rows: Sequence[TaskDone]) -> TaskMeasure:
    width = span / points
    # Grouped without a place there is always one row, the last by the order of places.
    [whole] = [each for each in rows if each.place is None]
    by_place = {min(each.place, points - 1): each for each in rows if each.place is not None}
    counts = [0] * BUCKETS
    for bucket, runs in zip(whole.buckets or (), whole.runs or (), strict=True):
        counts[bucket] = runs
    return TaskMeasure(
        task=task,
        span=span,
        counts=_task_counts(whole),
        run=_exact(whole),
        runs=buckets(counts),
        periods=[
            TaskPeriod(
                whole.now - timedelta(seconds=(place + 1) * width),
                width,
                _task_counts(by_place.get(place)),
                _exact(by_place.get(place)),
            )
            for place in reversed(range(points))
        ],
        looked=whole.looked,
        is_whole=whole.looked < TASK_LOOKS,
    )


def _task_counts(done: TaskDone | None) -> TaskCounts:
    if done is None:
        return TaskCounts(0, 0, 0, 0, 0, 0)
    return TaskCounts(*done[1:7])


def _exact(done: TaskDone | None) -> Percentiles | None:
    if done is None or done.run is None:
        return None
    p50, p95, p99 = done.run
    return None if p50 is None or p95 is None or p99 is None else Percentiles(p50, p95, p99)


def _capped(lanes: Sequence[LaneCounts], dead: Iterable[DeadCount]) -> set[Countable]:
    """Return the tables in which a count reached its limit."""
    is_capped: dict[Countable, bool] = {
        "ready": any(lane.ready >= lane.cap for lane in lanes),
        "scheduled": any(max(lane.scheduled, lane.retrying) >= lane.cap for lane in lanes),
        "blocked": any(lane.blocked >= lane.cap for lane in lanes),
        "dead_letter": any(each.letters >= each.cap for each in dead),
    }
    return {table for table, is_full in is_capped.items() if is_full}


def _measure(
    queue: str,
    lanes: Sequence[LaneCounts],
    failed: DeadCount | None,
    estimates: Iterable[Estimate],
    done: Sequence[Done],
    seconds: float,
) -> QueueMeasure:
    in_lane = {(each.what, each.lane): each.jobs for each in estimates if each.lane is not None}
    in_queue = {each.queue: each.jobs for each in estimates if each.lane is None}

    def count(what: str) -> Count:
        in_lanes = (
            _count(getattr(lane, what), lane.cap, in_lane.get((what, lane.lane), 0)) for lane in lanes
        )
        return sum(in_lanes, Count(0))

    ready = count("ready")
    # A prefetched job is leased, and can still run anywhere: it is pending.
    claimed = sum(lane.prefetched for lane in lanes)
    pending = ready + claimed
    is_counted = sum(lane.held for lane in lanes) < MOST_RUNNING
    waits, runs = _totals(each.waits for each in done), _totals(each.runs for each in done)
    # A time without statistics counts as one in which nothing happened.
    known = max(LEAST, seconds)
    return QueueMeasure(
        queue=queue,
        is_paused=any(lane.is_paused for lane in lanes),
        pending=pending,
        scheduled=count("scheduled"),
        retrying=count("retrying"),
        blocked=count("blocked"),
        running=Count(sum(lane.running for lane in lanes), is_counted),
        failed=Count(0) if failed is None else _count(failed.letters, failed.cap, in_queue.get(queue, 0)),
        oldest_age=max((lane.oldest_age for lane in lanes if lane.oldest_age is not None), default=None),
        enqueued_rate=_sum(done, "enqueued") / known,
        finished_rate=sum(map(_finished, done)) / known,
        wait=percentiles(waits, _first(each.first_wait for each in done)),
        run=percentiles(runs, _first(each.first_run for each in done)),
        drain=estimate_drain(
            pending.value, _rates(done, known, _finished), _rates(done, known, attrgetter("enqueued"))
        ),
        waits=buckets(waits),
        runs=buckets(runs),
        claimed=Count(claimed, is_counted),
    )


def _count(counted: int, cap: int, estimate: int) -> Count:
    return Count(counted) if counted < cap else Count(max(counted, estimate), is_exact=False)


def _finished(done: Done) -> int:
    return done.succeeded + done.failed + done.cancelled + done.expired


def _rates(done: Iterable[Done], seconds: float, count: Callable[[Done], int]) -> list[float]:
    """Return the rate per second in each stretch of the last *seconds*."""
    counts = [0] * max(1, math.ceil(seconds / STRETCH))
    for each in done:
        if each.place < len(counts):
            counts[each.place] += count(each)
    lengths = [min(STRETCH, seconds - stretch * STRETCH) for stretch in range(len(counts))]
    return [each / max(LEAST, length) for each, length in zip(counts, lengths, strict=True)]


def _sum(done: Iterable[Done], name: str) -> int:
    return sum(getattr(each, name) for each in done)


def _first(seconds: Iterable[float | None]) -> float | None:
    return next((each for each in seconds if each is not None), None)


def _totals(histograms: Iterable[Sequence[int | None]]) -> list[int]:
    totals = [0] * BUCKETS
    for histogram in histograms:
        for bucket, count in enumerate(histogram):
            totals[bucket] += count or 0
    return totals
