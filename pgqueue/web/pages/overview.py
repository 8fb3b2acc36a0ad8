"""The first page: all queues at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.model import figures
from pgqueue.model.measures import Count, Period, QueueMeasure, WorkerMeasure
from pgqueue.model.problems import worst_first
from pgqueue.web.pages import charts
from pgqueue.web.pages.page import Pages
from pgqueue.web.pages.scales import scale

SPAN: Final = 3600.0
POINTS: Final = 60
DRAWN: Final = 20
"""How many queues, the busiest, get a picture: each takes one more statement."""
LISTED: Final = 200
SPARK: Final = (100.0, 24.0)
WIDE: Final = (600.0, 120.0)


@dataclass(frozen=True, slots=True)
class Totals:
    """All queues together."""

    pending: Count
    claimed: Count
    """Of the pending ones."""
    running: Count
    scheduled: Count
    retrying: Count
    all_scheduled: Count
    """Scheduled for the first attempt or a retry."""
    blocked: Count
    failed: Count
    enqueued_rate: float
    finished_rate: float
    alive: int
    """Workers whose lease is valid."""
    workers: int
    slots: int | None
    """Of the live workers; None: some do not say."""
    rate_unit: str


def sum_up(queues: Sequence[QueueMeasure], workers: Sequence[WorkerMeasure]) -> Totals:
    """Return the totals."""

    def total(count_of: Callable[[QueueMeasure], Count]) -> Count:
        return sum(map(count_of, queues), Count(0))

    enqueued_rate = sum(queue.enqueued_rate for queue in queues)
    finished_rate = sum(queue.finished_rate for queue in queues)
    slots = [worker.slots for worker in workers if worker.is_alive]
    return Totals(
        pending=total(attrgetter("pending")),
        claimed=total(attrgetter("claimed")),
        running=total(attrgetter("running")),
        scheduled=total(attrgetter("scheduled")),
        retrying=total(attrgetter("retrying")),
        all_scheduled=total(attrgetter("scheduled")) + total(attrgetter("retrying")),
        blocked=total(attrgetter("blocked")),
        failed=total(attrgetter("failed")),
        enqueued_rate=enqueued_rate,
        finished_rate=finished_rate,
        alive=sum(worker.is_alive for worker in workers),
        workers=len(workers),
        slots=None if None in slots else sum(each or 0 for each in slots),
        rate_unit=figures.rate_unit([enqueued_rate, finished_rate]),
    )


def busiest(queues: Iterable[QueueMeasure], most: int) -> list[str]:
    """Return the names of the busiest queues."""
    ranked = sorted(queues, key=lambda queue: (-queue.enqueued_rate - queue.finished_rate, queue.queue))
    return [queue.queue for queue in ranked[:most]]


@dataclass(frozen=True, slots=True)
class Spark:
    """The last hour of one queue, drawn small."""

    line: str
    area: str
    ended: int
    """Jobs."""
    peak: int | None
    """The jobs of the minute with the most, if it is clipped."""


def spark(periods: Sequence[Period]) -> Spark:
    """Return the picture of ended jobs."""
    ended = [float(each.succeeded + each.failed) for each in periods]
    width, height = SPARK
    fitting = scale(ended)
    top = fitting.top if fitting.clipped else max(1.0, *ended)
    return Spark(
        charts.line(ended, width=width, height=height, top=top),
        charts.area(ended, width=width, height=height, top=top),
        int(sum(ended)),
        int(max(ended)) if fitting.clipped else None,
    )


@dataclass(frozen=True, slots=True)
class Waits:
    """Wait times of the last hour, as two lines."""

    p50: str
    p95: str
    top: float
    """Seconds at the upper edge."""
    clipped: Sequence[charts.Clipped]


def waits(periods: Sequence[Period]) -> Waits | None:
    """Return the picture of the wait times; None: nothing was claimed."""
    p50 = [None if each.wait is None else each.wait.p50 for each in periods]
    p95 = [None if each.wait is None else each.wait.p95 for each in periods]
    if all(each is None for each in p95):
        return None
    width, height = WIDE
    fitting = scale(p95)
    top = fitting.top
    return Waits(
        charts.line(p50, width=width, height=height, top=top),
        charts.line(p95, width=width, height=height, top=top),
        top,
        charts.clipped(fitting, [each or 0.0 for each in p95], [each.at for each in periods], width=width),
    )


def routes(pages: Pages) -> list[Route]:
    """Return the page's route."""

    async def show(request: Request) -> Response:
        await pages.access.check(request, "read", "queues")
        await pages.access.check(request, "read", "workers")
        queues = await pages.pgq.measure()
        workers = await pages.pgq.list_workers(jobs=0)
        whole = await pages.pgq.history(span=SPAN, points=POINTS)
        drawn = {
            queue: spark(await pages.pgq.history(queue, span=SPAN, points=POINTS))
            for queue in busiest(queues, DRAWN)
        }
        width, height = WIDE
        judged = worst_first(queues, workers)
        return pages.render(
            request,
            "overview.html",
            section="overview",
            events="/events",
            queues=judged[:LISTED],
            with_problems=sum(bool(problems) for _, problems in judged),
            rate_unit=figures.rate_unit(
                rate for each in queues for rate in (each.enqueued_rate, each.finished_rate)
            ),
            left_out=max(0, len(queues) - LISTED),
            totals=sum_up(queues, workers),
            periods=whole,
            throughput=charts.throughput(whole, width=width, height=height),
            waits=waits(whole),
            sparks=drawn,
            spark_size=SPARK,
            wide_size=WIDE,
            now=await pages.pgq.now(),
        )

    return [Route("/", show)]
