"""`GET /workers`: the workers, and what they are running."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import worker_document
from pgqueue.web.api.inputs import WorkerQuery
from pgqueue.web.api.outputs import Workers
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.security.access import Access


def routes(pgq: PgQueue, access: Access) -> list[Route]:
    """Return the routes about workers."""

    async def list_workers(request: Request) -> Response:
        # They are shown with jobs of all owners.
        await access.check_collection(request, "read", "workers")
        query = read_query(request, WorkerQuery)
        workers = await pgq.list_workers(jobs=query.jobs)
        document: Workers = {"workers": [worker_document(worker) for worker in workers]}
        return JsonResponse(document, headers=NO_STORE)

    return [Route("/workers", list_workers, name="workers")]
