"""Finding what a path names, if the requester may see it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.app import PgQueue
from pgqueue.client.operation_handle import BulkHandle, OperationHandle, RedriveHandle
from pgqueue.errors import JobNotFoundError
from pgqueue.model.jobs import Job
from pgqueue.model.operation import OperationProgress
from pgqueue.model.setting import Kind, Setting
from pgqueue.model.workflows import WorkflowDetails
from pgqueue.web.security.access import Access
from pgqueue.web.settings import Action

P = TypeVar("P", bound=OperationProgress)


def read_id(given: str, what: str = "job") -> UUID:
    """Return the id that *given* is. Raises HTTPException 422."""
    try:
        return UUID(given)
    except ValueError:
        raise HTTPException(422, f"{given!r} is not a {what} id; ids are UUIDs") from None


async def find_job(request: Request, pgq: PgQueue, access: Access, action: Action) -> Job:
    """Return the job that *request* is to do *action* to.

    Raises HTTPException 422, 401 or 403, and JobNotFoundError also for another owner's job.
    """
    job_id = read_id(request.path_params["id"])
    await access.check(request, action, f"job:{job_id}")
    job = await pgq.get(job_id)
    if not await access.owns(request, job):
        raise JobNotFoundError(job_id)
    return job


async def check_edit(
    request: Request, access: Access, job: Job, *, queue: str | None, priority: int | None
) -> None:
    """Let *request* move *job* to another queue or priority, or raise HTTPException 401 or 403."""
    if queue is not None and queue != job.queue:
        await access.check(request, "enqueue", f"queue:{queue}")
    if priority is not None and priority != job.priority:
        await access.check(request, "reprioritise", f"priority:{priority}")


async def find_workflow(request: Request, pgq: PgQueue, access: Access, action: Action) -> WorkflowDetails:
    """Return the workflow that *request* is to do *action* to.

    Where jobs have owners, it is everybody's, as a queue is: its jobs may be of several. Raises HTTPException
    422, 401 or 403, and WorkflowNotFoundError.
    """
    workflow_id = read_id(request.path_params["id"], "workflow")
    await access.check(request, action, f"workflow:{workflow_id}")
    return await pgq.workflow_details(workflow_id)


async def visible_ids(
    request: Request, pgq: PgQueue, access: Access, job_ids: Iterable[UUID]
) -> Collection[UUID]:
    """Return those of *job_ids* whose jobs the requester may see."""
    wanted = frozenset(job_ids)
    if not access.has_owners:
        return wanted
    found = await pgq.get_many(wanted, large_results=False)
    return {job.id for job in found.values() if await access.owns(request, job)}


def find_redrive(request: Request, pgq: PgQueue) -> RedriveHandle:
    """Return the mass redrive that the path names, whether it exists or not. Raises HTTPException 422."""
    return pgq.redrive_handle(read_id(request.path_params["id"], "redrive"))


def find_bulk(request: Request, pgq: PgQueue) -> BulkHandle:
    """Return the bulk operation that the path names, whether it exists or not. Raises HTTPException 422."""
    return pgq.bulk_handle(read_id(request.path_params["id"], "bulk operation"))


async def read_progress(handle: OperationHandle[P]) -> P:
    """Return how far an operation has come. Raises HTTPException 404."""
    try:
        return await handle.progress()
    except JobNotFoundError:
        raise HTTPException(404, f"there is no {handle.what} {handle.id}") from None


async def settings_of(pgq: PgQueue, kind: Kind) -> dict[str, Setting]:
    """Return the settings of queues, or of tasks, by name."""
    return settings_by_name(await pgq.settings(), kind)


def settings_by_name(settings: Iterable[Setting], kind: Kind) -> dict[str, Setting]:
    """Return those of *settings* that are of queues, or of tasks, by name."""
    return {setting.name: setting for setting in settings if setting.kind == kind}
