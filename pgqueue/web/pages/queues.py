"""The page of queues and tasks: what each holds, and pausing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.model.measures import Bucket, Count, QueueMeasure
from pgqueue.model.setting import Kind
from pgqueue.web.named_in_path import settings_by_name
from pgqueue.web.pages import charts
from pgqueue.web.pages.forms import read_form, reason_in
from pgqueue.web.pages.page import Desk

LISTED: Final = 200
HISTOGRAM: Final = (480.0, 80.0)
STATES: Final = ("running", "pending", "scheduled", "retrying", "blocked", "failed")


@dataclass(frozen=True, slots=True)
class Piece:
    """The jobs of a queue that are in one state, and their part of the bar."""

    state: str
    count: Count
    bar: charts.Bar


def pieces(queue: QueueMeasure) -> list[Piece]:
    """Return what *queue* holds, as one bar of 100."""
    counts: list[Count] = [getattr(queue, state) for state in STATES]
    drawn = charts.shares([each.value for each in counts], width=100)
    return [Piece(*each) for each in zip(STATES, counts, drawn, strict=True)]


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took in the last five minutes, as a picture and as rows."""

    name: str
    title: str
    drawn: charts.Histogram
    rows: Sequence[Bucket]
    """Buckets that are not empty."""


def durations(queue: QueueMeasure) -> list[Durations]:
    """Return how long the jobs of *queue* waited and ran; nothing of what there was not."""
    found: list[Durations] = []
    for name, title, buckets in (
        ("wait", "Wait before the start", queue.waits),
        ("run", "Run of the handler", queue.runs),
    ):
        width, height = HISTOGRAM
        drawn = charts.histogram(buckets, width=width, height=height)
        if drawn is not None:
            found.append(Durations(name, title, drawn, [bucket for bucket in buckets if bucket.jobs]))
    return found


def named(form: Mapping[str, str]) -> tuple[Kind, str]:
    """Return what a form names: a queue or a task. Raises HTTPException 422."""
    for kind in ("queue", "task"):
        if form.get(kind):
            return kind, form[kind]
    raise HTTPException(422, "name a queue or a task")


def routes(desk: Desk) -> list[Route]:
    """Return the routes of the page and of its forms."""

    async def show(request: Request) -> Response:
        await desk.access.check(request, "read", "queues")
        queues = await desk.pgq.measure()
        settings = await desk.pgq.settings()
        tasks = settings_by_name(settings, "task")
        return desk.render(
            request,
            "queues.html",
            section="queues",
            events="/events",
            queues=[(queue, pieces(queue), durations(queue)) for queue in queues[:LISTED]],
            size=HISTOGRAM,
            left_out=max(0, len(queues) - LISTED),
            queue_settings=settings_by_name(settings, "queue"),
            tasks=sorted({*desk.pgq.registry.names, *tasks})[:LISTED],
            task_settings=tasks,
            now=await desk.pgq.now(),
        )

    async def pause(request: Request) -> Response:
        return await change(request, "pause")

    async def resume(request: Request) -> Response:
        return await change(request, "resume")

    async def change(request: Request, verb: Literal["pause", "resume"]) -> Response:
        # What is paused is said by the form, and a form is not read for just anybody.
        await desk.access.check(request, "read", "queues")
        form = await read_form(request, desk.settings)
        kind, name = named(form)
        await desk.access.check(request, verb, f"{kind}:{name}")
        do = desk.pgq.pause if verb == "pause" else desk.pgq.resume
        done = await do(
            queue=name if kind == "queue" else None,
            task=name if kind == "task" else None,
            actor=desk.actor(request),
            reason=reason_in(form),
        )
        return desk.go(request, f"/queues?done={f'{verb}d' if done else 'nothing'}")

    return [
        Route("/queues", show),
        Route("/queues/pause", pause, methods=["POST"]),
        Route("/queues/resume", resume, methods=["POST"]),
    ]
