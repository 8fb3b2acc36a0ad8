"""Charts as the geometry of SVG elements. Pure functions on numbers: no markup, no colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from pgqueue.model.jobs import Attempt, Job, JobStatus
from pgqueue.model.measures import Bucket, Period
from pgqueue.web.pages.scales import Scale, nice_top, scale

LEAST_WIDTH: Final = 0.6
"""The least width of a stretch on a timeline, in percent, so that short ones can be seen."""
LEAST_BUCKETS: Final = 9
"""The least number of buckets of a histogram: fewer would look like a wall."""
LEAST_HEIGHT: Final = 0.02
"""The least height of a bar that is not empty, as a part of the whole, so that rare durations can be seen."""


def line(values: Sequence[float | None], *, width: float, height: float, top: float | None = None) -> str:
    """Return the path of a line through *values*, evenly spaced; None leaves a gap.

    *top*: the value at the upper edge; the largest of them, if not given.
    """
    highest = _top(values) if top is None else top
    step = width / max(1, len(values) - 1)
    path: list[str] = []
    run = 0
    for index, value in enumerate([*values, None]):
        if value is not None:
            x, y = index * step, height - _scaled(value, highest, height)
            path.append(f"{'L' if run else 'M'}{_round(x)} {_round(y)}")
            run += 1
            continue
        if run == 1:
            # A line of no length: with round ends it is a dot.
            path.append("h0")
        run = 0
    return "".join(path)


def area(values: Sequence[float], *, width: float, height: float, top: float | None = None) -> str:
    """Return the path of the area below that line."""
    if not values:
        return ""
    edge = line(values, width=width, height=height, top=top)
    return f"{edge}L{_round(width)} {_round(height)}L0 {_round(height)}Z"


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


def bars(
    values: Sequence[float],
    *,
    width: float,
    height: float,
    top: float,
    below: Sequence[float] | None = None,
    gap: float = 0.25,
) -> list[Bar]:
    """Return a bar for each of *values*, standing on those *below*; *gap* is the free part of each column."""
    column = width / max(1, len(values))
    under = below or [0.0] * len(values)
    found: list[Bar] = []
    for index, (value, foot) in enumerate(zip(values, under, strict=True)):
        base = _scaled(foot, top, height)
        # What stands on others is clipped where they end.
        tall = min(_scaled(value, top, height), height - base)
        found.append(
            Bar(
                _number(column * (index + gap / 2)),
                _number(height - base - tall),
                _number(column * (1 - gap)),
                _number(tall),
            )
        )
    return found


def shares(values: Sequence[float], *, width: float) -> list[Bar]:
    """Return one bar of *width*, cut into pieces in proportion to *values*."""
    whole = sum(values)
    x = 0.0
    found: list[Bar] = []
    for value in values:
        wide = width * value / whole if whole else 0.0
        found.append(Bar(_number(x), 0, _number(wide), 1))
        x += wide
    return found


class Clipped(NamedTuple):
    """A value that is higher than its chart."""

    at: datetime
    value: float
    x: float


def clipped(
    scale: Scale, values: Sequence[float], times: Sequence[datetime], *, width: float
) -> list[Clipped]:
    """Return which of *values*, each of a period that began then, are above *scale*, and where they are."""
    column = width / max(1, len(values))
    return [Clipped(times[place], values[place], _number(column * (place + 0.5))) for place in scale.clipped]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Recent throughput as a chart: bars of ended jobs and retried attempts, a line of enqueued jobs."""

    succeeded: Sequence[Bar]
    retried: Sequence[Bar]
    failed: Sequence[Bar]
    enqueued: str
    columns: Sequence[Bar]
    """The whole height of each period, for the pointer."""
    top: float
    """Jobs per second at the upper edge."""
    clipped: Sequence[Clipped]


def throughput(periods: Sequence[Period], *, width: float, height: float) -> Throughput:
    """Return the chart of *periods*, in jobs per second."""
    succeeded = [each.succeeded / each.seconds for each in periods]
    retried = [each.retried / each.seconds for each in periods]
    failed = [each.failed / each.seconds for each in periods]
    enqueued = [each.enqueued / each.seconds for each in periods]
    below = [a + b for a, b in zip(succeeded, retried, strict=True)]
    highest = [max(a + b, c) for a, b, c in zip(below, failed, enqueued, strict=True)]
    fitting = scale(highest)
    top = fitting.top
    return Throughput(
        succeeded=bars(succeeded, width=width, height=height, top=top),
        retried=bars(retried, below=succeeded, width=width, height=height, top=top),
        failed=bars(failed, below=below, width=width, height=height, top=top),
        enqueued=line(enqueued, width=width, height=height, top=top),
        columns=bars([top] * len(periods), width=width, height=height, top=top, gap=0),
        top=top,
        clipped=clipped(fitting, highest, [each.at for each in periods], width=width),
    )


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations by their length: a bar for each bucket, all of one width however long its durations are."""

    buckets: Sequence[Bucket]
    """Those that are drawn."""
    bars: Sequence[Bar]
    columns: Sequence[Bar]
    """The whole height of each bucket, for the pointer."""
    top: float
    """Jobs at the upper edge."""


def histogram(buckets: Sequence[Bucket], *, width: float, height: float) -> Histogram | None:
    """Return the picture of *buckets*, without the empty ones at either end; None: all of them are."""
    filled = [index for index, bucket in enumerate(buckets) if bucket.jobs]
    if not filled:
        return None
    missing = max(0, LEAST_BUCKETS - (filled[-1] - filled[0] + 1))
    first = max(0, min(filled[0] - missing // 2, len(buckets) - LEAST_BUCKETS))
    shown = buckets[first : max(filled[-1] + 1, first + LEAST_BUCKETS)]
    top = nice_top([bucket.jobs for bucket in shown])
    heights = [max(bucket.jobs, top * LEAST_HEIGHT) if bucket.jobs else 0 for bucket in shown]
    return Histogram(
        buckets=shown,
        bars=bars(heights, width=width, height=height, top=top, gap=0.12),
        columns=bars([top] * len(shown), width=width, height=height, top=top, gap=0),
        top=top,
    )


Kind = Literal["waiting", "running", "failed", "succeeded", "unknown", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a job's life. Positions are in percent of the whole."""

    kind: Kind
    label: str
    x: float
    width: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch before it has a position."""

    kind: Kind
    label: str
    since: datetime
    until: datetime


def timeline(job: Job, attempts: Sequence[Attempt], now: datetime) -> list[Stretch]:
    """Return the life of *job* from its enqueue to its end, or to *now*, as stretches side by side."""
    moments = [each for each in _life(job, attempts, now) if each.until > each.since]
    lengths = [(each.until - each.since).total_seconds() for each in moments]
    whole = sum(lengths)
    if not whole:
        return []
    # Short stretches get room to be seen, which the others give up.
    room = [max(100 * length / whole, LEAST_WIDTH) for length in lengths]
    scale = 100 / sum(room)
    stretches: list[Stretch] = []
    x = 0.0
    for each, wide, length in zip(moments, room, lengths, strict=True):
        stretches.append(Stretch(each.kind, each.label, _number(x), _number(wide * scale), length))
        x += wide * scale
    return stretches


def _life(job: Job, attempts: Sequence[Attempt], now: datetime) -> Iterator[Moment]:
    reached = job.created_at
    for each in attempts:
        started = reached if each.started_at is None else max(each.started_at, reached)
        yield Moment("waiting", "waited", reached, started)
        ended = max(each.ended_at, started)
        yield Moment("failed", f"attempt {each.attempt}: {each.reason}", started, ended)
        reached = ended
    if job.status is JobStatus.RUNNING or job.status is JobStatus.SUCCEEDED:
        yield from _last_attempt(job, reached, now, is_first=not attempts)
        return
    until = now if job.completed_at is None else job.completed_at
    match job.status:
        case JobStatus.CANCELLED | JobStatus.EXPIRED:
            yield Moment(
                "cancelled" if job.status is JobStatus.CANCELLED else "expired",
                f"waited, then {job.status}",
                reached,
                until,
            )
        case JobStatus.FAILED:
            yield Moment("waiting", "waited", reached, until)
        case _:
            yield Moment("waiting", f"waiting: {job.status}", reached, until)


def _last_attempt(job: Job, reached: datetime, now: datetime, *, is_first: bool) -> Iterator[Moment]:
    kind: Kind = "running" if job.status is JobStatus.RUNNING else "succeeded"
    until = now if job.completed_at is None else job.completed_at
    started = job.attempt_started_at
    if started is None and is_first:
        started = job.started_at
    if started is not None:
        started = min(max(started, reached), until)
        yield Moment("waiting", "waited", reached, started)
        yield Moment(kind, f"attempt {job.attempt}: {kind}", started, until)
    else:
        # Workers from before did not write down when a later attempt began.
        yield Moment(kind, f"waited, then attempt {job.attempt}: {kind}", reached, until)


def _top(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


def _scaled(value: float, top: float, height: float) -> float:
    return 0.0 if top <= 0 else max(0.0, min(value / top, 1.0)) * height


def _number(value: float) -> float:
    return round(value, 2)


def _round(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
