"""Server-sent events: of a job to its end, of a workflow to its end, and ticks when queues changed.

An event's id is the version of its data. A client that reconnects with `Last-Event-ID` is not told again what
it knows; one that knows how a job ended gets 204, after which EventSource does not reconnect. The data of
`job` and `workflow` is the document that a poll shows; of `tick`, the time and the names of the queues.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import job_document
from pgqueue.model.workflow_documents import workflow_document
from pgqueue.package import pip_install
from pgqueue.web.http.etags import version_of
from pgqueue.web.http.problems import NO_STORE, Problem
from pgqueue.web.live.capacity import Capacity
from pgqueue.web.live.job_events import Event, changes_of_job, changes_of_workflow
from pgqueue.web.live.queue_ticks import Ticker
from pgqueue.web.live.server_stop import ServerStop
from pgqueue.web.live.workflow_changes import WorkflowChanges
from pgqueue.web.named_in_path import find_job, find_workflow
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings

MEDIA_TYPE = "text/event-stream"
NOT_INSTALLED = f"event streams are not installed ({pip_install('web')}); poll instead"


def routes(
    pgq: PgQueue, settings: WebSettings, access: Access, server_stop: ServerStop, changes: WorkflowChanges
) -> list[Route]:
    """Return the routes of event streams, which end when the server stops."""
    try:
        from pgqueue.web.live.event_source import EventStream
    except ImportError:
        return [
            Route("/jobs/{id}/events", _not_installed, name="job_events"),
            Route("/workflows/{id}/events", _not_installed, name="workflow_events"),
            Route("/events", _not_installed, name="events"),
        ]
    ticker = Ticker(pgq.measure)
    capacity = Capacity(settings.max_streams, "event streams")

    async def job_events(request: Request) -> Response:
        job = await find_job(request, pgq, access, "read")
        seen = request.headers.get("last-event-id")
        if job.is_terminal and seen == version_of(job_document(job)):
            return Response(status_code=204, headers=NO_STORE)
        return stream(request, changes_of_job(pgq, job.id, seen=seen))

    async def workflow_events(request: Request) -> Response:
        workflow = await find_workflow(request, pgq, access, "read")
        seen = request.headers.get("last-event-id")
        if workflow.is_over and seen == version_of(workflow_document(workflow)):
            return Response(status_code=204, headers=NO_STORE)
        return stream(request, changes_of_workflow(changes, workflow, seen=seen))

    async def events(request: Request) -> Response:
        await access.check(request, "read", "queues")
        return stream(request, ticker.listen(seen=request.headers.get("last-event-id")))

    def stream(request: Request, told: AsyncGenerator[Event]) -> Response:
        if request.method == "HEAD":
            return Response(headers=NO_STORE, media_type=MEDIA_TYPE)
        reader = access.reader_of(request)
        capacity.check(reader)
        session = access.session_of(request)
        return EventStream(
            told,
            capacity=capacity,
            reader=reader,
            settings=settings,
            server_stop=server_stop,
            has_ended=None if session is None else partial(access.has_ended, session),
        )

    return [
        Route("/jobs/{id}/events", job_events, name="job_events"),
        Route("/workflows/{id}/events", workflow_events, name="workflow_events"),
        Route("/events", events, name="events"),
    ]


async def _not_installed(_: Request) -> Response:
    return Problem(501, NOT_INSTALLED)
