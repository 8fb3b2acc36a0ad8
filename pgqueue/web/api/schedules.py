"""`/schedules`: listed, shown with their history, made, changed, paused, run and removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.schedule_documents import schedule_document, tick_document
from pgqueue.tasks.signature import Signature
from pgqueue.web.api.inputs import Because, NoQuery
from pgqueue.web.api.outputs import RunSchedule, ScheduleDetails, Schedules
from pgqueue.web.api.schedule_inputs import ScheduleBody, ScheduleChanges, ScheduleListQuery, ScheduleQuery
from pgqueue.web.calls import hiding_secrets, scheduled_call
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE, ProblemError
from pgqueue.web.http.queries import next_page, read_query
from pgqueue.web.security.access import Access
from pgqueue.web.settings import Action, WebSettings

OF_CALL: Final = ("arguments", "queue", "priority")
"""What belongs to a call, and changes only with it."""


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about schedules."""
    own = ScheduleRoutes(pgq, settings, access)
    # A schedule's name can be any text: GET of one that ends in /pause is not for the route that pauses.
    path = "/schedules/{schedule:name}"
    return [
        Route("/schedules", own.list, name="schedules"),
        Route("/schedules", own.create, methods=["POST"], name="create_schedule"),
        Route(f"{path}/pause", own.pause, methods=["POST"], name="pause_schedule"),
        Route(f"{path}/resume", own.resume, methods=["POST"], name="resume_schedule"),
        Route(f"{path}/run", own.run, methods=["POST"], name="run_schedule"),
        Route(path, own.show, name="schedule"),
        Route(path, own.edit, methods=["PATCH"], name="edit_schedule"),
        Route(path, own.delete, methods=["DELETE"], name="delete_schedule"),
    ]


class ScheduleRoutes:
    """What the API shows of schedules, and does to them. Where jobs have owners, they are everybody's."""

    def __init__(self, pgq: PgQueue, settings: WebSettings, access: Access) -> None:
        self._pgq = pgq
        self._settings = settings
        self._access = access

    async def list(self, request: Request) -> Response:
        """Show schedules, by name."""
        await self._access.check(request, "read", "schedules")
        query = read_query(request, ScheduleListQuery)
        # One more tells whether there is a next page.
        found = await self._pgq.schedules.list(after=query.cursor or "", limit=query.limit + 1)
        cursor = found[query.limit - 1].name if len(found) > query.limit else None
        link, header = next_page(request, cursor)
        document: Schedules = {
            "schedules": [schedule_document(each) for each in found[: query.limit]],
            "cursor": cursor,
            "next": link,
        }
        return JsonResponse(document, headers={**NO_STORE, **header})

    async def show(self, request: Request) -> Response:
        """Show one, with its latest ticks."""
        name = await self._allowed(request, "read")
        query = read_query(request, ScheduleQuery)
        found = await self._pgq.schedules.get(name)
        ticks = await self._pgq.schedules.history(name, limit=query.ticks) if query.ticks else ()
        document: ScheduleDetails = {
            **schedule_document(found),
            "ticks": [tick_document(each) for each in ticks],
        }
        return JsonResponse(document, headers=NO_STORE)

    async def create(self, request: Request) -> Response:
        """Make one."""
        await self._access.check(request, "configure", "schedules")
        body = await read_json(request, self._settings, ScheduleBody)
        await self._access.check(request, "configure", f"schedule:{body.name}")
        call = await self._call(request, body.task, body)
        with hiding_secrets(self._pgq, call):
            made = await self._pgq.schedules.create(
                body.name, call, **body.timing(), actor=self._access.actor_of(request), reason=body.reason
            )
        headers = {**NO_STORE, "Location": path_to(request, "schedule", schedule=made.name)}
        return JsonResponse(schedule_document(made), 201, headers)

    async def edit(self, request: Request) -> Response:
        """Change what was sent."""
        name = await self._allowed(request, "configure")
        body = await read_json(request, self._settings, ScheduleChanges)
        notes: dict[str, Any] = {"actor": self._access.actor_of(request), "reason": body.reason}
        if body.task is None:
            without_task = [each for each in OF_CALL if each in body.model_fields_set]
            if without_task:
                problem = "send task as well: it is changed with the whole call"
                errors = [{"field": each, "message": problem} for each in without_task]
                raise ProblemError(422, f"the body is invalid: {without_task[0]}: {problem}", errors=errors)
            changed = await self._pgq.schedules.edit(name, **notes, **body.timing())
        else:
            call = await self._call(request, body.task, body)
            with hiding_secrets(self._pgq, call):
                changed = await self._pgq.schedules.edit(name, call=call, **notes, **body.timing())
        return JsonResponse(schedule_document(changed), headers=NO_STORE)

    async def pause(self, request: Request) -> Response:
        """Let it not tick."""
        return await self._set_paused(request, "pause", self._pgq.schedules.pause)

    async def resume(self, request: Request) -> Response:
        """Let it tick again."""
        return await self._set_paused(request, "resume", self._pgq.schedules.resume)

    async def _set_paused(
        self, request: Request, action: Action, do: Callable[..., Awaitable[bool]]
    ) -> Response:
        name = await self._allowed(request, action)
        body = await read_json(request, self._settings, Because)
        await do(name, reason=body.reason, actor=self._access.actor_of(request))
        return JsonResponse(schedule_document(await self._pgq.schedules.get(name)), headers=NO_STORE)

    async def run(self, request: Request) -> Response:
        """Have it tick now as well."""
        name = await self._allowed(request, "enqueue")
        body = await read_json(request, self._settings, Because)
        job_id = await self._pgq.schedules.run_now(
            name, actor=self._access.actor_of(request), reason=body.reason
        )
        document: RunSchedule = {
            "job_id": None if job_id is None else str(job_id),
            "poll_url": None if job_id is None else path_to(request, "job", id=str(job_id)),
        }
        return JsonResponse(document, headers=NO_STORE)

    async def delete(self, request: Request) -> Response:
        """Remove it, and its history."""
        name = await self._allowed(request, "remove")
        read_query(request, NoQuery)
        body = await read_json(request, self._settings, Because)
        actor = self._access.actor_of(request)
        if not await self._pgq.schedules.delete(name, actor=actor, reason=body.reason):
            raise HTTPException(404, f"there is no schedule {name!r}")
        return Response(status_code=204, headers=NO_STORE)

    async def _allowed(self, request: Request, action: Action) -> str:
        """Return the name in the path, if *request* may do *action* to it."""
        name: str = request.path_params["schedule"]
        await self._access.check(request, action, f"schedule:{name}")
        return name

    async def _call(self, request: Request, task: str, body: ScheduleChanges) -> Signature[Any]:
        """Return the call that *body* asks for, if *request* may submit it. Raises HTTPException."""
        return await scheduled_call(
            request, self._pgq, self._settings, self._access, task, body.arguments, body.options()
        )
