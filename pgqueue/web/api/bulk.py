"""Many jobs at once: bulk operations, which workers do in the background."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import bulk_document
from pgqueue.web.api.begun import Begun
from pgqueue.web.api.inputs import BulkBody
from pgqueue.web.http.bodies import read_json
from pgqueue.web.named_in_path import find_bulk, read_progress
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
        return await operations.answer(request, handle)

    async def may_read(request: Request) -> None:
        await access.check_collection(request, "read", "jobs")

    async def may_cancel(request: Request) -> None:
        await may_read(request)
        progress = await read_progress(find_bulk(request, pgq))
        await access.check_collection(request, progress.verb, "jobs")

    operations = Begun(
        "/bulk",
        name="bulk",
        find=lambda request: find_bulk(request, pgq),
        document=bulk_document,
        may_read=may_read,
        may_cancel=may_cancel,
    )
    return [Route("/bulk", begin, methods=["POST"], name="begin_bulk"), *operations.routes()]
