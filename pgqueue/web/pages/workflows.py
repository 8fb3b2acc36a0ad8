"""The pages of workflows: the list, and one drawn as a graph, with its jobs and the actions on it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import InvalidFilterError
from pgqueue.model.filters import read_statuses
from pgqueue.model.jobs import TERMINAL, JobStatus
from pgqueue.model.workflows import WorkflowDetails, WorkflowFilter, WorkflowMember, WorkflowPage
from pgqueue.web.named_in_path import find_workflow
from pgqueue.web.pages.errors import explain
from pgqueue.web.pages.forms import read_form, reason_in
from pgqueue.web.pages.graph import Drawing, draw
from pgqueue.web.pages.page import Pages, base_of
from pgqueue.web.settings import Action

PAGE: Final = 25
JOBS: Final = 50
DRAWN: Final = 20_000
"""Jobs of a workflow that is drawn, at most: it is read for that, at each refresh."""
REST_FACTOR: Final = 9
"""A drawing is shown for this many times as long as it took: all look at the same one."""
KEPT: Final = 32
"""Drawings that are kept, at most."""
LEAST: Final = 0.8
"""The least width of a stretch on a timeline, in percent, so that short ones can be seen."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """When a job waited, and when it ran, in percent of its workflow's time."""

    waited_from: float
    ran_from: float
    until: float
    has_run: bool


def stretch(job: WorkflowMember, begin: datetime, end: datetime) -> Stretch:
    """Return the place of *job* on the timeline from *begin* to *end*."""
    whole = max((end - begin).total_seconds(), 1e-6)

    def place(at: datetime) -> float:
        return round(min(max((at - begin).total_seconds() / whole, 0), 1) * 100, 2)

    until = place(job.completed_at or end)
    ran_from = until if job.started_at is None else min(place(job.started_at), 100 - LEAST)
    if job.started_at is not None:
        until = max(until, ran_from + LEAST)
    return Stretch(place(job.created_at), ran_from, until, job.started_at is not None)


ACTIONS: Final[Sequence[Action]] = ("cancel", "redrive", "pause", "resume")
"""What one can do to a workflow."""


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the pages and of their forms."""
    own = WorkflowPages(pages)
    return [
        Route("/workflows", own.list),
        Route("/workflows/{id}", own.show),
        Route("/workflows/{id}/cancel", own.cancel, methods=["POST"]),
        Route("/workflows/{id}/retry", own.retry, methods=["POST"]),
        Route("/workflows/{id}/pause", own.pause, methods=["POST"]),
        Route("/workflows/{id}/resume", own.resume, methods=["POST"]),
    ]


class WorkflowPages:
    """The list of workflows, the page of one, and its forms."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._drawn: dict[tuple[UUID, bool], tuple[Drawing, float]] = {}
        """Drawings, and until when each is shown again instead of a new one."""

    async def list(self, request: Request) -> Response:
        """Show workflows, newest first."""
        await self._pages.access.check(request, "read", "workflows")
        query = request.query_params
        statuses = [each for each in query.getlist("status") if each]
        name, cursor = query.get("name", "").strip(), query.get("cursor") or None
        page, wrong = WorkflowPage([], None), None
        try:
            chosen = WorkflowFilter(read_statuses(statuses or None), name or None)
            page = await self._pages.pgq.workflows(chosen, limit=PAGE, cursor=cursor)
        except InvalidFilterError as error:
            wrong = explain(error)[1]
        kept = [*(("status", each) for each in statuses), *([("name", name)] if name else [])]
        here = f"{base_of(request)}/workflows?{urlencode(kept)}"
        return self._pages.render(
            request,
            "workflows.html",
            section="workflows",
            status=422 if wrong else 200,
            events="" if cursor or wrong else "/events",
            workflows=page.workflows,
            is_cut_short=page.is_cut_short,
            is_filtered=bool(kept),
            chosen=statuses,
            name=name,
            statuses=list(JobStatus),
            older=f"{here}&{urlencode({'cursor': page.cursor})}" if page.cursor else None,
            newest=here if cursor else None,
            wrong=wrong,
            now=await self._pages.pgq.now(),
        )

    async def show(self, request: Request) -> Response:
        """Show one."""
        found = await find_workflow(request, self._pages.pgq, self._pages.access, "read")
        now = await self._pages.pgq.now()
        status, cursor = (
            request.query_params.get("status") or None,
            request.query_params.get("cursor") or None,
        )
        try:
            page = await self._pages.pgq.workflow_jobs(found.id, status=status, limit=JOBS, cursor=cursor)
        except InvalidFilterError as error:
            raise HTTPException(422, str(error)) from error
        here = f"{base_of(request)}/workflows/{found.id}"
        kept = [("status", status)] if status else []
        return self._pages.render(
            request,
            "workflow.html",
            section="workflows",
            is_top=False,
            events="" if found.is_over else f"/workflows/{found.id}/events",
            workflow=found,
            may=await self._pages.offers(request, *((action, f"workflow:{found.id}") for action in ACTIONS)),
            counts={each.value: (found.counts or {}).get(each, 0) for each in JobStatus},
            drawing=await self._drawing(found),
            statuses=list(JobStatus),
            chosen=status,
            jobs=[(job, stretch(job, found.created_at, _end(found, now))) for job in page.jobs],
            older=f"{here}?{urlencode([*kept, ('cursor', page.cursor)])}#jobs" if page.cursor else None,
            first=f"{here}?{urlencode(kept)}#jobs" if cursor else None,
            still=None if found.is_terminal else await self._pages.pgq.find_standstill(found.id),
            actions=await self._pages.pgq.workflow_actions(found.id),
            live=sum(count for each, count in (found.counts or {}).items() if each not in TERMINAL),
            now=now,
        )

    async def _drawing(self, found: WorkflowDetails) -> Drawing | None:
        """Return the graph; None: it is too large to be drawn."""
        if sum((found.counts or {}).values()) > DRAWN:
            return None
        drawn, until = self._drawn.get((found.id, found.is_over), (None, 0.0))
        if drawn is None or time.monotonic() > until:
            started = time.monotonic()
            groups, edges = await self._pages.pgq.fold_workflow(found.id)
            drawn, ended = draw(groups, edges), time.monotonic()
            if len(self._drawn) >= KEPT:
                self._drawn.clear()
            self._drawn[found.id, found.is_over] = drawn, ended + REST_FACTOR * (ended - started)
        return drawn

    async def cancel(self, request: Request) -> Response:
        """Cancel what has not ended."""
        return await self._change(request, "cancel", self._pages.pgq.cancel_workflow, "workflow_cancelled")

    async def retry(self, request: Request) -> Response:
        """Redrive what failed."""
        return await self._change(request, "redrive", self._pages.pgq.retry_workflow, "workflow_retried")

    async def _change(
        self, request: Request, action: Action, do: Callable[..., Awaitable[int | None]], done: str
    ) -> Response:
        found = await find_workflow(request, self._pages.pgq, self._pages.access, action)
        form = await read_form(request, self._pages.settings)
        count = await do(found.id, reason=reason_in(form), actor=self._pages.actor(request))
        return self._pages.go(request, f"/workflows/{found.id}?done={'nothing' if count == 0 else done}")

    async def pause(self, request: Request) -> Response:
        """Let nothing become ready that waits in it."""
        return await self._change(request, "pause", self._pages.pgq.pause_workflow, "workflow_paused")

    async def resume(self, request: Request) -> Response:
        """Let it go on."""
        return await self._change(request, "resume", self._pages.pgq.resume_workflow, "resumed")


def _end(found: WorkflowDetails, now: datetime) -> datetime:
    """Return when the timeline of a workflow ends."""
    return now if not found.is_over or found.completed_at is None else found.completed_at
