"""Return the job's id at once, and do the work in the background.

The request's own record and the job are written in one transaction: neither exists without the other,
whatever crashes. The status is in the job; no second table has to be kept in step with it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import BaseModel

from pgqueue import JobContext, PgQueue

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))


class ExportRequest(BaseModel):
    """What a client asks for."""

    table: str
    rows: int


class JobResponse(BaseModel):
    """What the client gets at once: sent with status 202."""

    job_id: str
    status: str
    poll_url: str


@pgq.task(queue="exports", timeout=3600)
async def export_data(ctx: JobContext, request: ExportRequest) -> dict[str, str | int]:
    """Write the file, however long that takes."""
    for row in range(request.rows):
        ctx.progress(row + 1, request.rows)
    return {"file": f"{request.table}.csv", "rows": request.rows}


async def start_export(connection: Connection, request: ExportRequest) -> JobResponse:
    """Start an export, and return where to poll for it."""
    async with connection.transaction():
        job = await export_data.options(connection=connection).enqueue(request)
        await connection.execute(
            "insert into export_request (job_id, target) values ($1, $2)", job.id, request.table
        )
    return JobResponse(job_id=str(job.id), status="pending", poll_url=f"/jobs/{job.id}")
