"""An endpoint that clients poll: how to write your own, and the status app, which has it and more.

The latter is below /queue:

    curl localhost/queue/jobs --oauth2-bearer "$PGQUEUE_TOKEN" --json '{"task": "add", "arguments": [1, 2]}'
    curl localhost/queue/jobs/... --oauth2-bearer "$PGQUEUE_TOKEN"  # the Location of the answer
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from pgqueue import JobNotFoundError, JobStatus, PgQueue
from pgqueue.web import status_app

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))


@pgq.task
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def get_job_status(request: Request) -> JSONResponse:
    """Get the current status of a background job: one read by primary key."""
    try:
        job = await pgq.get(UUID(request.path_params["job_id"]))
    except ValueError:
        return JSONResponse({"detail": "a job id is a UUID"}, status_code=422)
    except JobNotFoundError as error:
        # An unknown id is not "pending".
        return JSONResponse({"detail": str(error)}, status_code=404)
    return JSONResponse(
        {
            "job_id": str(job.id),
            "status": job.status.value,
            "created_at": job.created_at.isoformat(),
            "started_at": job.started_at and job.started_at.isoformat(),
            "completed_at": job.completed_at and job.completed_at.isoformat(),
            "result": job.result if job.status is JobStatus.SUCCEEDED else None,
            "error": job.error.message if job.status is JobStatus.FAILED and job.error else None,
            # Also true for cancelled and expired jobs, so that no client polls for ever.
            "is_terminal": job.is_terminal,
        },
        headers={"cache-control": "no-store"},
    )


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Keep the PgQueue open while the service runs; the status app does not do that."""
    async with pgq:
        yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/jobs/{job_id}", get_job_status),
        # Closed without a token: then only programs on this machine may read, and nobody may submit.
        Mount("/queue", app=status_app(pgq, token=os.environ.get("PGQUEUE_TOKEN"))),
    ],
)
