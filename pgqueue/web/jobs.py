"""`GET /jobs/{id}`: where a job stands."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.errors import JobNotFoundError
from pgqueue.web.problems import NO_STORE, Problem
from pgqueue.web.representation import job_document


def routes(pgq: PgQueue) -> list[Route]:
    """Return the routes about jobs."""

    async def show(request: Request) -> Response:
        given = request.path_params["id"]
        try:
            job_id = UUID(given)
        except ValueError:
            return Problem(422, f"{given!r} is not a job id: those are UUIDs")
        try:
            job = await pgq.get(job_id)
        except JobNotFoundError as error:
            return Problem(404, str(error))
        return JSONResponse(job_document(job), headers=NO_STORE)

    return [Route("/jobs/{id}", show, name="job")]
