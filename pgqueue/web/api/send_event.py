"""`POST /jobs/{id}/events`: an event for a job that waits for it, or will."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.web.api.inputs import EventBody
from pgqueue.web.api.outputs import SentEvent
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.named_in_path import find_job
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the route that sends events."""

    async def send(request: Request) -> Response:
        job = await find_job(request, pgq, access, "signal")
        body = await read_json(request, settings, EventBody)
        is_new = await pgq.signal(job.id, body.name, body.value, dedup_id=body.dedup_id)
        document: SentEvent = {"is_new": is_new}
        return JsonResponse(document, 202 if is_new else 200, NO_STORE)

    return [Route("/jobs/{id}/events", send, methods=["POST"], name="send_event")]
