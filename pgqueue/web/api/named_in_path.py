"""Finding what a path names, for whoever may see it."""

from __future__ import annotations

from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.app import PgQueue
from pgqueue.errors import JobNotFoundError
from pgqueue.model.jobs import Job
from pgqueue.model.setting import Kind, Setting
from pgqueue.web.security.access import Access
from pgqueue.web.settings import Action


def read_id(request: Request, what: str = "job") -> UUID:
    """Return the id in the path of *request*. Raises HTTPException 422."""
    given = request.path_params["id"]
    try:
        return UUID(given)
    except ValueError:
        raise HTTPException(422, f"{given!r} is not a {what} id: those are UUIDs") from None


async def find_job(request: Request, pgq: PgQueue, access: Access, action: Action) -> Job:
    """Return the job that *request* is to do *action* to.

    Raises HTTPException 422, 401 or 403, and JobNotFoundError also for a job of somebody else.
    """
    job_id = read_id(request)
    await access.check(request, action, f"job:{job_id}")
    job = await pgq.get(job_id)
    if not await access.owns(request, job):
        raise JobNotFoundError(job_id)
    return job


async def settings_of(pgq: PgQueue, kind: Kind) -> dict[str, Setting]:
    """Return the settings of queues, or of tasks, by name."""
    return {setting.name: setting for setting in await pgq.settings() if setting.kind == kind}
