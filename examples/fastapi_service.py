"""A FastAPI service: endpoints that enqueue, a worker beside them, and the dashboard.

    DATABASE_URL=postgresql://localhost/app PGQUEUE_TOKEN=... uvicorn examples.fastapi_service:app

    curl localhost:8000/reports --json '{"title": "2026", "pages": 3}'
    curl localhost:8000/reports/...  # the Location of the answer

For more workers, on any machine: pgqueue worker examples.fastapi_service:pgq
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, Field

from pgqueue import JobContext, JobNotFoundError, PgQueue
from pgqueue.integrations.fastapi import Queue, lifespan
from pgqueue.web import status_app

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))


class Report(BaseModel):
    """What to write."""

    title: str
    pages: Annotated[int, Field(ge=1, le=100)]


class Status(BaseModel):
    """Where a report stands."""

    status: str
    progress: float | None
    report: str | None


@pgq.task(max_retries=3)
async def write_report(ctx: JobContext, report: Report) -> str:
    """Run in a worker: pydantic models are arguments like any other."""
    for page in range(report.pages):
        await asyncio.sleep(0.01)
        ctx.progress(page + 1, report.pages)
    return f"{report.title}, {report.pages} pages"


app = FastAPI(lifespan=lifespan(pgq, worker=pgq.worker, migrate=True))
# Closed without a token: then only programs on this machine may read, and nobody may submit.
app.mount("/queue", status_app(pgq, token=os.environ.get("PGQUEUE_TOKEN")))


@app.post("/reports", status_code=202)
async def order_report(report: Report, response: Response, queue: Queue) -> UUID:
    """Return at once; a worker writes the report."""
    job = await queue.enqueue(write_report.s(report))
    response.headers["location"] = f"/reports/{job.id}"
    return job.id


@app.get("/reports/{job_id}")
async def read_report(job_id: UUID, queue: Queue) -> Status:
    """Say where a report stands."""
    try:
        job = await queue.get(job_id)
    except JobNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    progress = job.progress
    done = progress.current / progress.total if progress and progress.total else None
    return Status(status=job.status, progress=done, report=job.result)
