"""`/queues`: what queues hold and how fast they move; pausing, resuming and removing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import queue_and_setting_document, setting_document
from pgqueue.web.api.inputs import Because, NoQuery
from pgqueue.web.api.outputs import Queues, QueueSetting
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.named_in_path import settings_of
from pgqueue.web.security.access import Access
from pgqueue.web.settings import Action, WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about queues."""

    async def list_queues(request: Request) -> Response:
        await access.check(request, "read", "queues")
        read_query(request, NoQuery)
        known = await settings_of(pgq, "queue")
        found = await pgq.measure()
        document: Queues = {
            "queues": [queue_and_setting_document(queue, known.get(queue.queue)) for queue in found]
        }
        return JsonResponse(document, headers=NO_STORE)

    async def show(request: Request) -> Response:
        name = request.path_params["queue"]
        await access.check(request, "read", f"queue:{name}")
        read_query(request, NoQuery)
        for queue in await pgq.measure():
            if queue.queue == name:
                setting = (await settings_of(pgq, "queue")).get(name)
                return JsonResponse(queue_and_setting_document(queue, setting), headers=NO_STORE)
        raise HTTPException(404, f"unknown queue {name!r}: no job was ever enqueued into it")

    async def pause(request: Request) -> Response:
        return await change(request, "pause", pgq.pause)

    async def resume(request: Request) -> Response:
        return await change(request, "resume", pgq.resume)

    async def change(request: Request, action: Action, do: Callable[..., Awaitable[bool]]) -> Response:
        name = request.path_params["queue"]
        await access.check(request, action, f"queue:{name}")
        body = await read_json(request, settings, Because)
        await do(queue=name, reason=body.reason, actor=access.actor_of(request))
        known = await settings_of(pgq, "queue")
        document: QueueSetting = {"queue": name, **setting_document(known.get(name))}
        return JsonResponse(document, headers=NO_STORE)

    async def remove(request: Request) -> Response:
        name = request.path_params["queue"]
        await access.check(request, "remove", f"queue:{name}")
        read_query(request, NoQuery)
        if not await pgq.remove_queue(name):
            raise HTTPException(404, f"unknown queue {name!r}: there is nothing to remove")
        return Response(status_code=204, headers=NO_STORE)

    # A queue's name can be any text: GET of one that ends in /pause is not for the route that pauses.
    return [
        Route("/queues", list_queues, name="queues"),
        Route("/queues/{queue:name}/pause", pause, methods=["POST"], name="pause_queue"),
        Route("/queues/{queue:name}/resume", resume, methods=["POST"], name="resume_queue"),
        Route("/queues/{queue:name}", show, name="queue"),
        Route("/queues/{queue:name}", remove, methods=["DELETE"], name="remove_queue"),
    ]
