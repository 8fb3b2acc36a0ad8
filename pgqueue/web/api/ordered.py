"""`/ordered-groups`: groups whose jobs run in order, and the keys of them that stand still."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.ordered_documents import ordered_document, stopped_document
from pgqueue.web.api.inputs import NoQuery
from pgqueue.web.api.ordered_inputs import OnDeadBody, ResumeBody, StoppedQuery
from pgqueue.web.api.outputs import OrderedGroups, ResumedKey, StoppedKeys
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about ordered groups. They are limits: who may see or change those may do it here."""

    async def list_groups(request: Request) -> Response:
        await access.check(request, "read", "limits")
        read_query(request, NoQuery)
        document: OrderedGroups = {"groups": [ordered_document(each) for each in await pgq.ordered_groups()]}
        return JsonResponse(document, headers=NO_STORE)

    async def list_stopped(request: Request) -> Response:
        await access.check(request, "read", "limits")
        query = read_query(request, StoppedQuery)
        found = await pgq.stopped_keys(query.name, limit=query.limit)
        document: StoppedKeys = {"keys": [stopped_document(each) for each in found]}
        return JsonResponse(document, headers=NO_STORE)

    async def resume(request: Request) -> Response:
        await access.check(request, "resume", "limits")
        body = await read_json(request, settings, ResumeBody)
        await access.check(request, "resume", f"limit:order/{body.name}")
        changed = await pgq.resume_key(
            body.name, body.key, reason=body.reason, actor=access.actor_of(request)
        )
        document: ResumedKey = {"name": body.name, "key": body.key, "changed": changed}
        return JsonResponse(document, headers=NO_STORE)

    async def change(request: Request) -> Response:
        await access.check(request, "configure", "limits")
        body = await read_json(request, settings, OnDeadBody)
        await access.check(request, "configure", f"limit:order/{body.name}")
        await pgq.set_ordered(body.name, on_dead=body.on_dead, actor=access.actor_of(request))
        found = next(each for each in await pgq.ordered_groups() if each.name == body.name)
        return JsonResponse(ordered_document(found), headers=NO_STORE)

    return [
        Route("/ordered-groups", list_groups, name="ordered_groups"),
        Route("/ordered-groups", change, methods=["PUT"], name="change_ordered_group"),
        Route("/ordered-groups/stopped", list_stopped, name="stopped_keys"),
        Route("/ordered-groups/resume", resume, methods=["POST"], name="resume_key"),
    ]
