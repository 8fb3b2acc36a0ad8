"""The first page: all queues at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.model.measures import Count, Period, QueueMeasure, WorkerMeasure
from pgqueue.web.pages import charts
from pgqueue.web.pages.page import Pages

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


def sum_up(queues: Sequence[QueueMeasure], workers: Sequence[WorkerMeasure]) -> Totals:
    """Return the totals."""

    def total(count_of: Callable[[QueueMeasure], Count]) -> Count:
        return sum(map(count_of, queues), Count(0))

    return Totals(
        pending=total(attrgetter("pending")),
        running=total(attrgetter("running")),
        scheduled=total(attrgetter("scheduled")),
        retrying=total(attrgetter("retrying")),
        all_scheduled=total(attrgetter("scheduled")) + total(attrgetter("retrying")),
        blocked=total(attrgetter("blocked")),
        failed=total(attrgetter("failed")),
        enqueued_rate=sum(queue.enqueued_rate for queue in queues),
        finished_rate=sum(queue.finished_rate for queue in queues),
        alive=sum(worker.is_alive for worker in workers),
        workers=len(workers),
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


def spark(periods: Sequence[Period]) -> Spark:
    """Return the picture of ended jobs."""
    ended = [float(each.succeeded + each.failed) for each in periods]
    width, height = SPARK
    top = max(1.0, *ended)
    return Spark(
        charts.line(ended, width=width, height=height, top=top),
        charts.area(ended, width=width, height=height, top=top),
        int(sum(ended)),
    )


@dataclass(frozen=True, slots=True)
class Waits:
    """Wait times of the last hour, as two lines."""

    p50: str
    p95: str
    top: float
    """Seconds at the upper edge."""


def waits(periods: Sequence[Period]) -> Waits | None:
    """Return the picture of the wait times; None: nothing was claimed."""
    p50 = [None if each.wait is None else each.wait.p50 for each in periods]
    p95 = [None if each.wait is None else each.wait.p95 for each in periods]
    if all(each is None for each in p95):
        return None
    width, height = WIDE
    top = charts.nice_top(p95)
    return Waits(
        charts.line(p50, width=width, height=height, top=top),
        charts.line(p95, width=width, height=height, top=top),
        top,
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
        return pages.render(
            request,
            "overview.html",
            section="overview",
            events="/events",
            queues=queues[:LISTED],
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
