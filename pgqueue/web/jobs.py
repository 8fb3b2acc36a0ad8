"""`GET /jobs/{id}`: where a job stands."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.documents import job_document
from pgqueue.errors import JobNotFoundError
from pgqueue.web.access import Access
from pgqueue.web.problems import NO_STORE, Problem
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, _settings: WebSettings, access: Access) -> list[Route]:
    """Return the routes about jobs."""

    async def show(request: Request) -> Response:
        given = request.path_params["id"]
        try:
            job_id = UUID(given)
        except ValueError:
            return Problem(422, f"{given!r} is not a job id: those are UUIDs")
        await access.check(request, "read", f"job:{job_id}")
        try:
            job = await pgq.get(job_id)
        except JobNotFoundError as error:
            return Problem(404, str(error))
        if not await access.owns(request, job):
            return Problem(404, str(JobNotFoundError(job_id)))
        return JSONResponse(job_document(job), headers=NO_STORE)

    return [Route("/jobs/{id}", show, name="job")]
