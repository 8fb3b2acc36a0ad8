"""Many dead letters at once: mass redrives, which workers do in the background, and mass discards."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import redrive_document
from pgqueue.web.api.begun import Begun
from pgqueue.web.api.inputs import DiscardBody, MassRedriveBody
from pgqueue.web.api.outputs import Discarded
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.routing import FixedRoute
from pgqueue.web.named_in_path import find_redrive
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
        return await redrives.answer(request, handle)

    async def may_read(request: Request) -> None:
        await access.check_collection(request, "read", "dead_letters")

    async def may_cancel(request: Request) -> None:
        await access.check_collection(request, "redrive", "dead_letters")

    async def discard(request: Request) -> Response:
        await access.check_collection(request, "discard", "dead_letters")
        body = await read_json(request, settings, DiscardBody)
        count = await pgq.discard_many(
            body.filter.filter(), all=body.all, reason=body.reason, actor=access.actor_of(request)
        )
        document: Discarded = {"discarded": count}
        return JsonResponse(document, headers=NO_STORE)

    redrives = Begun(
        "/redrives",
        name="redrive",
        find=lambda request: find_redrive(request, pgq),
        document=redrive_document,
        may_read=may_read,
        may_cancel=may_cancel,
    )
    return [
        FixedRoute("/dead-letters/redrive", begin, methods=["POST"], name="redrive_many"),
        FixedRoute("/dead-letters/discard", discard, methods=["POST"], name="discard_many"),
        *redrives.routes(),
    ]
