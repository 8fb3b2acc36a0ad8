"""The page of one job, and the actions on it."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import CodecError, JobNotFoundError, JobPurgedError, NotADeadLetterError
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.model.waits import Wait
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.pages.charts import timeline
from pgqueue.web.pages.forms import number_in, read_form, reason_in
from pgqueue.web.pages.page import Pages
from pgqueue.web.settings import Action

WAITING = frozenset({JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.BLOCKED})


def possible_actions(job: Job, *, is_dead_letter: bool) -> frozenset[Action]:
    """Return the actions that are possible in the state of *job*."""
    if is_dead_letter:
        return frozenset({"redrive", "discard"})
    if job.status in WAITING:
        now: frozenset[Action] = frozenset({"run_now"} if job.status is JobStatus.SCHEDULED else ())
        return now | frozenset[Action]({"cancel", "reprioritise", "edit"})
    if job.status is JobStatus.RUNNING:
        return frozenset({"cancel"})
    if job.status is JobStatus.FAILED:
        return frozenset({"redrive"})
    return frozenset({"requeue"})


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the page and of its forms."""
    own = JobPage(pages)
    return [
        Route("/jobs/{id}", own.show),
        Route("/jobs/{id}/result", own.result),
        Route("/jobs/{id}/cancel", own.cancel, methods=["POST"]),
        Route("/jobs/{id}/run", own.run_now, methods=["POST"]),
        Route("/jobs/{id}/reprioritise", own.reprioritise, methods=["POST"]),
        Route("/jobs/{id}/requeue", own.requeue, methods=["POST"]),
        Route("/jobs/{id}/discard", own.discard, methods=["POST"]),
    ]


class JobPage:
    """The page of one job, and its forms."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def show(self, request: Request) -> Response:
        """Show the job."""
        job = await self._pages.job(request, "read")
        fingerprint = await self._find_fingerprint(job)
        attempts = await self._pages.pgq.attempts(job.id)
        now = await self._pages.pgq.now()
        possible = possible_actions(job, is_dead_letter=fingerprint is not None)
        may = await self._pages.offers(request, *((action, f"job:{job.id}") for action in possible))
        return self._pages.render(
            request,
            "job.html",
            section="jobs",
            is_top=False,
            events="/events" if job.is_terminal else f"/jobs/{job.id}/events",
            job=job,
            waits=await self._explain(job),
            workflow=await self._pages.pgq.workflow_of(job.id),
            schedule=await self._pages.pgq.schedule_of(job.id),
            arguments=self._pages.pgq.shown_arguments(job),
            are_hidden=self._pages.hides(job),
            attempts=attempts,
            actions=await self._pages.pgq.actions(job.id),
            stretches=timeline(job, attempts, now),
            possible=[action for action in possible if may(action, f"job:{job.id}")],
            fingerprint=fingerprint,
            show_tracebacks=self._pages.settings.show_tracebacks,
            trace_url=self._trace_of(job),
            now=now,
        )

    async def result(self, request: Request) -> Response:
        """Give its result, as a file."""
        job = await self._pages.job(request, "read")
        if job.status is not JobStatus.SUCCEEDED or not job.has_result:
            raise HTTPException(404, f"job {job.id} has no result")
        if "result" in job.undecodable:
            raise CodecError(job.id, "result", job.undecodable["result"])
        file = {"Content-Disposition": f'attachment; filename="result-{job.id}.json"'}
        return JsonResponse(job.shown_result, headers={**NO_STORE, **file})

    def _trace_of(self, job: Job) -> str | None:
        """Return where the trace of *job* is seen; None: it has none, or nobody said where traces are."""
        url = self._pages.settings.trace_url
        return None if url is None or job.trace_id is None else url.replace("{trace_id}", job.trace_id)

    async def _explain(self, job: Job) -> Wait | None:
        """Return what *job* waits for; None: it does not wait, or does not any more."""
        if job.status not in WAITING:
            return None
        try:
            return await self._pages.pgq.explain_wait(job.id)
        except (JobNotFoundError, JobPurgedError):
            return None

    async def _find_fingerprint(self, job: Job) -> str | None:
        """Return the fingerprint of *job*; None: it is not a dead letter."""
        if job.status is not JobStatus.FAILED:
            return None
        try:
            return (await self._pages.pgq.dead_letter(job.id)).letter.fingerprint
        except NotADeadLetterError:
            return None

    async def _begin(self, request: Request, action: Action) -> tuple[Job, dict[str, str]]:
        """Return the job and the form, if the requester may do *action*."""
        job = await self._pages.job(request, action)
        return job, await read_form(request, self._pages.settings)

    async def cancel(self, request: Request) -> Response:
        """Cancel it."""
        job, form = await self._begin(request, "cancel")
        done = await self._pages.pgq.cancel(job.id, reason=reason_in(form), actor=self._pages.actor(request))
        return self._back(request, job, "cancelled" if done else "over")

    async def run_now(self, request: Request) -> Response:
        """Have it start before its time."""
        job, form = await self._begin(request, "run_now")
        done = await self._pages.pgq.run_now(job.id, reason=reason_in(form), actor=self._pages.actor(request))
        return self._back(request, job, "running_now" if done else "nothing")

    async def reprioritise(self, request: Request) -> Response:
        """Change its priority."""
        job, form = await self._begin(request, "reprioritise")
        priority = number_in(form, "priority")
        await self._pages.access.check(request, "reprioritise", f"priority:{priority}")
        await self._pages.pgq.reprioritise(
            job.id, priority, reason=reason_in(form), actor=self._pages.actor(request)
        )
        return self._back(request, job, "reprioritised")

    async def requeue(self, request: Request) -> Response:
        """Make it pending again."""
        job, form = await self._begin(request, "requeue")
        done = await self._pages.pgq.requeue(job.id, reason=reason_in(form), actor=self._pages.actor(request))
        return self._back(request, job, "requeued" if done else "nothing")

    async def discard(self, request: Request) -> Response:
        """Take it out of the dead letters."""
        job, form = await self._begin(request, "discard")
        done = await self._pages.pgq.discard(job.id, reason=reason_in(form), actor=self._pages.actor(request))
        return self._back(request, job, "discarded" if done else "nothing")

    def _back(self, request: Request, job: Job, done: str) -> Response:
        return self._pages.go(request, f"/jobs/{job.id}?done={done}")
