"""Many jobs at once: bulk operations, which workers do in the background."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import bulk_document
from pgqueue.web.api.inputs import BulkBody, NoQuery
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.named_in_path import find_bulk, read_bulk_progress
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about bulk operations."""

    async def begin(request: Request) -> Response:
        # Whoever may do none of it learns nothing of the body.
        await access.check_collection(request, "read", "jobs")
        body = await read_json(request, settings, BulkBody)
        await access.check_collection(request, body.verb, "jobs")
        handle = await pgq.begin_bulk(
            body.verb,
            None if body.filter is None else body.filter.filter(),
            ids=body.ids,
            all=body.all,
            as_of=body.as_of,
            expected=body.expected,
            reason=body.reason,
            actor=access.actor_of(request),
        )
        location = path_to(request, "bulk_progress", id=str(handle.id))
        document = bulk_document(await handle.progress())
        return JsonResponse(document, 202, headers={**NO_STORE, "Location": location, "Retry-After": "1"})

    async def progress(request: Request) -> Response:
        await access.check_collection(request, "read", "jobs")
        handle = find_bulk(request, pgq)
        read_query(request, NoQuery)
        return JsonResponse(bulk_document(await read_bulk_progress(handle)), headers=NO_STORE)

    async def cancel(request: Request) -> Response:
        await access.check_collection(request, "read", "jobs")
        handle = find_bulk(request, pgq)
        await access.check_collection(request, (await read_bulk_progress(handle)).verb, "jobs")
        is_cancelled = await handle.cancel()
        found = await read_bulk_progress(handle)
        if not is_cancelled:
            raise HTTPException(409, f"bulk operation {handle.id} has already ended ({found.state})")
        return JsonResponse(bulk_document(found), headers=NO_STORE)

    return [
        Route("/bulk", begin, methods=["POST"], name="begin_bulk"),
        Route("/bulk/{id}", progress, name="bulk_progress"),
        Route("/bulk/{id}/cancel", cancel, methods=["POST"], name="cancel_bulk"),
    ]
