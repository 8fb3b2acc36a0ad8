"""The page of queues and tasks: what they hold, and their pauses. A queue that is empty can be removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.model import figures
from pgqueue.model.measures import Bucket, Count, QueueMeasure
from pgqueue.model.problems import worst_first
from pgqueue.model.setting import Kind
from pgqueue.web.named_in_path import settings_by_name
from pgqueue.web.pages import charts
from pgqueue.web.pages.forms import read_form, reason_in
from pgqueue.web.pages.page import Pages

LISTED: Final = 200
HISTOGRAM: Final = (480.0, 80.0)
STATES: Final = ("running", "claimed", "pending", "scheduled", "retrying", "blocked", "failed")


@dataclass(frozen=True, slots=True)
class Piece:
    """The jobs of a queue in one state, and their part of the bar."""

    state: str
    count: Count
    bar: charts.Bar
    listed: Count
    """What the page shows that the figure leads to."""


def pieces(queue: QueueMeasure) -> list[Piece]:
    """Return what *queue* holds, as one bar of 100."""
    counts: list[Count] = [getattr(queue, state) for state in STATES]
    # What is claimed is pending, too, and drawn apart.
    widths = [
        each.value - (queue.claimed.value if state == "pending" else 0)
        for state, each in zip(STATES, counts, strict=True)
    ]
    drawn = charts.shares(widths, width=100)
    # A job that waits for a retry is scheduled, too.
    scheduled = queue.scheduled + queue.retrying
    listed = [
        scheduled if state == "scheduled" else count for state, count in zip(STATES, counts, strict=True)
    ]
    return [Piece(*each) for each in zip(STATES, counts, drawn, listed, strict=True)]


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations as a picture and as rows."""

    name: str
    title: str
    drawn: charts.Histogram
    rows: Sequence[Bucket]
    """Buckets that are not empty."""


def durations(queue: QueueMeasure) -> list[Durations]:
    """Return the wait and run times of the jobs of *queue*, as far as there are any."""
    drawn = (
        durations_of("wait", "Wait time", queue.waits, HISTOGRAM),
        durations_of("run", "Run time", queue.runs, HISTOGRAM),
    )
    return [each for each in drawn if each is not None]


def durations_of(
    name: str, title: str, buckets: Sequence[Bucket], size: tuple[float, float]
) -> Durations | None:
    """Return the picture of *buckets*; None: they are empty."""
    drawn = charts.histogram(buckets, width=size[0], height=size[1])
    if drawn is None:
        return None
    return Durations(name, title, drawn, [bucket for bucket in buckets if bucket.jobs])


def named(form: Mapping[str, str]) -> tuple[Kind, str]:
    """Return the queue or the task that a form names. Raises HTTPException 422."""
    for kind in ("queue", "task"):
        if form.get(kind):
            return kind, form[kind]
    raise HTTPException(422, "the form must name a queue or a task")


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the page and of its forms."""

    async def show(request: Request) -> Response:
        await pages.access.check(request, "read", "queues")
        queues = await pages.pgq.measure()
        workers = await pages.pgq.list_workers(jobs=0)
        judged = worst_first(queues, workers)[:LISTED]
        settings = await pages.pgq.settings()
        tasks = settings_by_name(settings, "task")
        shown = sorted({*pages.pgq.registry.names, *tasks})[:LISTED]
        resources = [f"queue:{queue.queue}" for queue, _ in judged] + [f"task:{name}" for name in shown]
        may = await pages.offers(
            request, *((action, each) for each in resources for action in ("pause", "resume", "remove"))
        )
        return pages.render(
            request,
            "queues.html",
            section="queues",
            events="/events",
            queues=[(queue, problems, pieces(queue), durations(queue)) for queue, problems in judged],
            rate_unit=figures.rate_unit(
                rate for queue, _ in judged for rate in (queue.enqueued_rate, queue.finished_rate)
            ),
            size=HISTOGRAM,
            left_out=max(0, len(queues) - LISTED),
            queue_settings=settings_by_name(settings, "queue"),
            tasks=shown,
            may=may,
            task_settings=tasks,
            now=await pages.pgq.now(),
        )

    async def pause(request: Request) -> Response:
        return await change(request, "pause")

    async def resume(request: Request) -> Response:
        return await change(request, "resume")

    async def change(request: Request, verb: Literal["pause", "resume"]) -> Response:
        # The form says what to pause, and forms are read only for requesters who may see the page.
        await pages.access.check(request, "read", "queues")
        form = await read_form(request, pages.settings)
        kind, name = named(form)
        await pages.access.check(request, verb, f"{kind}:{name}")
        do = pages.pgq.pause if verb == "pause" else pages.pgq.resume
        done = await do(
            queue=name if kind == "queue" else None,
            task=name if kind == "task" else None,
            actor=pages.actor(request),
            reason=reason_in(form),
        )
        return pages.go(request, f"/queues?done={f'{verb}d' if done else 'nothing'}")

    async def remove(request: Request) -> Response:
        await pages.access.check(request, "read", "queues")
        form = await read_form(request, pages.settings)
        kind, name = named(form)
        if kind != "queue":
            raise HTTPException(422, "the form must name a queue")
        await pages.access.check(request, "remove", f"queue:{name}")
        done = await pages.pgq.remove_queue(name)
        return pages.go(request, f"/queues?done={'removed' if done else 'nothing'}")

    return [
        Route("/queues", show),
        Route("/queues/remove", remove, methods=["POST"]),
        Route("/queues/pause", pause, methods=["POST"]),
        Route("/queues/resume", resume, methods=["POST"]),
    ]
