"""Many dead letters at once: mass redrives, which workers do in the background, and mass discards."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import redrive_document
from pgqueue.web.api.inputs import DiscardBody, MassRedriveBody, NoQuery
from pgqueue.web.api.outputs import Discarded
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.http.routing import FixedRoute
from pgqueue.web.named_in_path import find_redrive, read_progress
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about many dead letters."""

    async def begin(request: Request) -> Response:
        await access.check_collection(request, "redrive", "dead_letters")
        body = await read_json(request, settings, MassRedriveBody)
        handle = await pgq.redrive_many(
            body.filter.filter(),
            all=body.all,
            rate=body.rate,
            queue=body.queue,
            reset_attempts=body.reset_attempts,
            reason=body.reason,
            actor=access.actor_of(request),
        )
        location = path_to(request, "redrive_progress", id=str(handle.id))
        document = redrive_document(await handle.progress())
        return JsonResponse(document, 202, headers={**NO_STORE, "Location": location, "Retry-After": "1"})

    async def progress(request: Request) -> Response:
        await access.check_collection(request, "read", "dead_letters")
        handle = find_redrive(request, pgq)
        read_query(request, NoQuery)
        return JsonResponse(redrive_document(await read_progress(handle)), headers=NO_STORE)

    async def cancel(request: Request) -> Response:
        await access.check_collection(request, "redrive", "dead_letters")
        handle = find_redrive(request, pgq)
        is_cancelled = await handle.cancel()
        found = await read_progress(handle)
        if not is_cancelled:
            raise HTTPException(409, f"redrive {handle.id} has already ended ({found.state})")
        return JsonResponse(redrive_document(found), headers=NO_STORE)

    async def discard(request: Request) -> Response:
        await access.check_collection(request, "discard", "dead_letters")
        body = await read_json(request, settings, DiscardBody)
        count = await pgq.discard_many(
            body.filter.filter(), all=body.all, reason=body.reason, actor=access.actor_of(request)
        )
        document: Discarded = {"discarded": count}
        return JsonResponse(document, headers=NO_STORE)

    return [
        FixedRoute("/dead-letters/redrive", begin, methods=["POST"], name="redrive_many"),
        FixedRoute("/dead-letters/discard", discard, methods=["POST"], name="discard_many"),
        Route("/redrives/{id}", progress, name="redrive_progress"),
        Route("/redrives/{id}/cancel", cancel, methods=["POST"], name="cancel_redrive"),
    ]
