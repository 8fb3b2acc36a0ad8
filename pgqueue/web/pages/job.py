"""The page of one job, and what can be done to it there."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import NotADeadLetterError
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.web.pages.charts import timeline
from pgqueue.web.pages.forms import number_in, read_form, reason_in
from pgqueue.web.pages.page import Desk
from pgqueue.web.settings import Action

WAITING = frozenset({JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.BLOCKED})


def possible_actions(job: Job, *, is_dead_letter: bool) -> frozenset[Action]:
    """Return what can be done to *job* as it stands."""
    if is_dead_letter:
        return frozenset({"redrive", "discard"})
    if job.status in WAITING:
        return frozenset({"cancel", "reprioritise"})
    if job.status is JobStatus.RUNNING:
        return frozenset({"cancel"})
    if job.status is JobStatus.FAILED:
        return frozenset({"redrive"})
    return frozenset({"requeue"})


class JobPage:
    """The page of one job, and its forms."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Return the routes of the page and of its forms."""
        return [
            Route("/jobs/{id}", self.show),
            Route("/jobs/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/jobs/{id}/reprioritise", self.reprioritise, methods=["POST"]),
            Route("/jobs/{id}/requeue", self.requeue, methods=["POST"]),
            Route("/jobs/{id}/discard", self.discard, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show the job."""
        job = await self._desk.job(request, "read")
        fingerprint = await self._find_fingerprint(job)
        attempts = await self._desk.pgq.attempts(job.id)
        now = await self._desk.pgq.now()
        return self._desk.render(
            request,
            "job.html",
            section="jobs",
            is_top=False,
            events="/events" if job.is_terminal else f"/jobs/{job.id}/events",
            job=job,
            arguments=self._desk.pgq.shown_arguments(job),
            are_hidden=self._desk.hides(job),
            attempts=attempts,
            actions=await self._desk.pgq.actions(job.id),
            stretches=timeline(job, attempts, now),
            possible=possible_actions(job, is_dead_letter=fingerprint is not None),
            fingerprint=fingerprint,
            show_tracebacks=self._desk.settings.show_tracebacks,
            now=now,
        )

    async def _find_fingerprint(self, job: Job) -> str | None:
        """Return what other dead letters share with *job*; None: it is none."""
        if job.status is not JobStatus.FAILED:
            return None
        try:
            return (await self._desk.pgq.dead_letter(job.id)).letter.fingerprint
        except NotADeadLetterError:
            return None

    async def _begin(self, request: Request, action: Action) -> tuple[Job, dict[str, str]]:
        """Return the job and the form, if the requester may."""
        job = await self._desk.job(request, action)
        return job, await read_form(request, self._desk.settings)

    async def cancel(self, request: Request) -> Response:
        """Cancel it."""
        job, form = await self._begin(request, "cancel")
        done = await self._desk.pgq.cancel(job.id, reason=reason_in(form), actor=self._desk.actor(request))
        return self._back(request, job, "cancelled" if done else "over")

    async def reprioritise(self, request: Request) -> Response:
        """Give it another priority."""
        job, form = await self._begin(request, "reprioritise")
        await self._desk.pgq.reprioritise(
            job.id, number_in(form, "priority"), reason=reason_in(form), actor=self._desk.actor(request)
        )
        return self._back(request, job, "reprioritised")

    async def requeue(self, request: Request) -> Response:
        """Make it pending again."""
        job, form = await self._begin(request, "requeue")
        done = await self._desk.pgq.requeue(job.id, reason=reason_in(form), actor=self._desk.actor(request))
        return self._back(request, job, "requeued" if done else "nothing")

    async def discard(self, request: Request) -> Response:
        """Take it out of the dead letters."""
        job, form = await self._begin(request, "discard")
        done = await self._desk.pgq.discard(job.id, reason=reason_in(form), actor=self._desk.actor(request))
        return self._back(request, job, "discarded" if done else "nothing")

    def _back(self, request: Request, job: Job, done: str) -> Response:
        return self._desk.go(request, f"/jobs/{job.id}?done={done}")
