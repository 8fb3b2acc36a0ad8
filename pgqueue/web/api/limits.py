"""`/limits`: what limits let through, what waits for them, and changing them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.flow.limits import FAIR, queue_of_window
from pgqueue.model.limit_documents import limit_document, limit_key_document
from pgqueue.model.limiters import limiter_document
from pgqueue.web.api.inputs import Because
from pgqueue.web.api.limit_inputs import LimitBody, LimiterQuery, LimitListQuery, LimitQuery
from pgqueue.web.api.outputs import LimitDetails, Limiters, Limits
from pgqueue.web.http.bodies import read_json
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import next_page, read_query
from pgqueue.web.security.access import Access
from pgqueue.web.settings import Action, WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about limits. Where jobs have owners, limits are everybody's."""

    async def allowed(request: Request, action: Action) -> str:
        name: str = request.path_params["limit"]
        await access.check(request, action, f"limit:{name}")
        return name

    async def list_limits(request: Request) -> Response:
        await access.check(request, "read", "limits")
        query = read_query(request, LimitListQuery)
        # What is on the next page is not counted here: its name is enough.
        found = await pgq.limits(after=query.cursor or "", limit=query.limit)
        cursor = found[-1].name if len(found) == query.limit else None
        link, header = next_page(request, cursor)
        document: Limits = {
            "limits": [limit_document(each) for each in found],
            "cursor": cursor,
            "next": link,
        }
        return JsonResponse(document, headers={**NO_STORE, **header})

    async def show(request: Request) -> Response:
        name = await allowed(request, "read")
        query = read_query(request, LimitQuery)
        found = await pgq.get_limit(name)
        page = await pgq.limit_keys(name, key=query.key, limit=query.limit, cursor=query.cursor)
        at_key = None if query.key is None else await pgq.limit_jobs(name, query.key)
        link, header = next_page(request, page.cursor)
        document: LimitDetails = {
            **limit_document(found),
            "busy": [limit_key_document(each) for each in await pgq.busy_limit_keys(name)],
            "keys": [limit_key_document(each) for each in page.keys],
            "holders": None if at_key is None else list(map(str, at_key.holders)),
            "weights": await pgq.weights(queue_of_window(name)) if name.startswith(FAIR) else {},
            "first_waiting": None if at_key is None else list(map(str, at_key.waiting)),
            "cursor": page.cursor,
            "next": link,
        }
        return JsonResponse(document, headers={**NO_STORE, **header})

    async def change(request: Request) -> Response:
        name = await allowed(request, "configure")
        body = await read_json(request, settings, LimitBody)
        actor = access.actor_of(request)
        if body.gives_weight():
            await pgq.set_weight(queue_of_window(name), body.key, body.weight, actor=actor)
        else:
            await pgq.set_limit(name, **body.changes(), actor=actor, reason=body.reason)
        return JsonResponse(limit_document(await pgq.get_limit(name)), headers=NO_STORE)

    async def reset(request: Request) -> Response:
        name = await allowed(request, "configure")
        body = await read_json(request, settings, Because)
        await pgq.reset_limit(name, actor=access.actor_of(request), reason=body.reason)
        return Response(status_code=204, headers=NO_STORE)

    async def list_limiters(request: Request) -> Response:
        await access.check(request, "read", "limits")
        query = read_query(request, LimiterQuery)
        found = await pgq.limiters(limit=query.limit)
        document: Limiters = {"limiters": [limiter_document(each) for each in found]}
        return JsonResponse(document, headers=NO_STORE)

    # A limit's name can be any text, also one that ends as a path of another would.
    path = "/limits/{limit:name}"
    return [
        Route("/limits", list_limits, name="limits"),
        Route("/limiters", list_limiters, name="limiters"),
        Route(path, show, name="limit"),
        Route(path, change, methods=["PUT"], name="change_limit"),
        Route(path, reset, methods=["DELETE"], name="reset_limit"),
    ]
