"""`/tasks`: pausing and resuming tasks, and changing their options while workers run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import TaskDocument, task_document
from pgqueue.model.setting import Setting
from pgqueue.web.api.inputs import Because, NoQuery, TaskOptionsBody
from pgqueue.web.api.outputs import Tasks
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.http.routing import FixedRoute
from pgqueue.web.named_in_path import settings_of
from pgqueue.web.security.access import Access
from pgqueue.web.settings import Action, WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about tasks."""

    async def list_tasks(request: Request) -> Response:
        await access.check(request, "read", "tasks")
        read_query(request, NoQuery)
        known = await settings_of(pgq, "task")
        names = sorted({*pgq.registry.names, *known})
        document: Tasks = {"tasks": [_document(pgq, name, known.get(name)) for name in names]}
        return JsonResponse(document, headers=NO_STORE)

    async def pause(request: Request) -> Response:
        return await change(request, "pause", pgq.pause)

    async def resume(request: Request) -> Response:
        return await change(request, "resume", pgq.resume)

    async def change(request: Request, action: Action, do: Callable[..., Awaitable[bool]]) -> Response:
        name = request.path_params["task"]
        await access.check(request, action, f"task:{name}")
        body = await read_json(request, settings, Because)
        await do(task=name, reason=body.reason, actor=access.actor_of(request))
        return await show(name)

    async def configure(request: Request) -> Response:
        name = request.path_params["task"]
        await access.check(request, "configure", f"task:{name}")
        body = await read_json(request, settings, TaskOptionsBody)
        options = body.options.model_dump(exclude_unset=True)
        await pgq.configure_task(name, reason=body.reason, actor=access.actor_of(request), **options)
        return await show(name)

    async def show(name: str) -> Response:
        known = await settings_of(pgq, "task")
        return JsonResponse(_document(pgq, name, known.get(name)), headers=NO_STORE)

    # A task's name can be any text.
    return [
        Route("/tasks", list_tasks, name="tasks"),
        FixedRoute("/tasks/{task:name}/pause", pause, methods=["POST"], name="pause_task"),
        FixedRoute("/tasks/{task:name}/resume", resume, methods=["POST"], name="resume_task"),
        FixedRoute("/tasks/{task:name}/options", configure, methods=["PUT"], name="configure_task"),
    ]


def _document(pgq: PgQueue, name: str, setting: Setting | None) -> TaskDocument:
    task = pgq.registry.get(name)
    queue = None if task is None else pgq.registry.queue_of(task)
    return task_document(name, queue, setting)
