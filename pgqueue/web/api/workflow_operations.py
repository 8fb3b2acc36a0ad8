"""What operators do to a workflow: cancel it, retry what failed, pause it, and let it go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.web.api.inputs import Because
from pgqueue.web.api.outputs import ChangedWorkflow
from pgqueue.web.api.workflows import overview
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.named_in_path import find_workflow
from pgqueue.web.security.access import Access
from pgqueue.web.settings import Action, WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes that change workflows."""

    async def cancel(request: Request) -> Response:
        return await change(request, "cancel", pgq.cancel_workflow)

    async def retry(request: Request) -> Response:
        return await change(request, "redrive", pgq.retry_workflow)

    async def change(request: Request, action: Action, do: Callable[..., Awaitable[int]]) -> Response:
        found = await find_workflow(request, pgq, access, action)
        body = await read_json(request, settings, Because)
        changed = await do(found.id, reason=body.reason, actor=access.actor_of(request))
        document: ChangedWorkflow = {
            "changed": changed,
            "workflow": overview(request, await pgq.workflow_details(found.id)),
        }
        return JsonResponse(document, headers=NO_STORE)

    async def pause(request: Request) -> Response:
        return await set_paused(request, "pause", pgq.pause_workflow)

    async def resume(request: Request) -> Response:
        return await set_paused(request, "resume", pgq.resume_workflow)

    async def set_paused(request: Request, action: Action, do: Callable[..., Awaitable[None]]) -> Response:
        found = await find_workflow(request, pgq, access, action)
        body = await read_json(request, settings, Because)
        await do(found.id, reason=body.reason, actor=access.actor_of(request))
        return JsonResponse(overview(request, await pgq.workflow_details(found.id)), headers=NO_STORE)

    return [
        Route("/workflows/{id}/cancel", cancel, methods=["POST"], name="cancel_workflow"),
        Route("/workflows/{id}/retry-failed", retry, methods=["POST"], name="retry_workflow"),
        Route("/workflows/{id}/pause", pause, methods=["POST"], name="pause_workflow"),
        Route("/workflows/{id}/resume", resume, methods=["POST"], name="resume_workflow"),
    ]
