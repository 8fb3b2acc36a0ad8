"""`GET /jobs/{id}/events`: a job as server-sent events, from now to its end.

Each event is named `job`, its data is the document that a poll shows, and its id the version of that. A
client that connects again with `Last-Event-ID` is told nothing that it knows; one that knows the end is
answered 204, after which EventSource does not come back.
"""

from __future__ import annotations

from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.documents import job_document
from pgqueue.errors import JobNotFoundError
from pgqueue.jobs import Job
from pgqueue.web.access import Access
from pgqueue.web.changes import changes_of_job
from pgqueue.web.places import Places
from pgqueue.web.problems import NO_STORE, Problem
from pgqueue.web.settings import WebSettings
from pgqueue.web.versions import version_of

MEDIA_TYPE = "text/event-stream"
NOT_INSTALLED = "there are no event streams here: they need `pip install 'pgqueue[web]'`; poll instead"


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes of event streams."""
    try:
        from pgqueue.web.event_source import EventStream
    except ImportError:
        return [Route("/jobs/{id}/events", _not_installed, name="job_events")]
    places = Places(settings.max_streams, "event streams")

    async def job_events(request: Request) -> Response:
        job = await _find(request, pgq, access)
        seen = request.headers.get("last-event-id")
        if job.is_terminal and seen == version_of(job_document(job)):
            return Response(status_code=204, headers=NO_STORE)
        if request.method == "HEAD":
            return Response(headers=NO_STORE, media_type=MEDIA_TYPE)
        places.check()
        return EventStream(changes_of_job(pgq, job.id, seen=seen), places=places, settings=settings)

    return [Route("/jobs/{id}/events", job_events, name="job_events")]


async def _not_installed(_: Request) -> Response:
    return Problem(501, NOT_INSTALLED)


async def _find(request: Request, pgq: PgQueue, access: Access) -> Job:
    given = request.path_params["id"]
    try:
        job_id = UUID(given)
    except ValueError:
        raise HTTPException(422, f"{given!r} is not a job id: those are UUIDs") from None
    await access.check(request, "read", f"job:{job_id}")
    job = await pgq.get(job_id)
    if not await access.owns(request, job):
        raise JobNotFoundError(job_id)
    return job
