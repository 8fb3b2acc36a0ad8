"""Workflows that a job starts and waits for.

A child workflow and the step that names it are written in one transaction: a handler that runs again finds
it, and starts no second one. How a child failed is stored when the handler is told, because the child may be
redriven later, and a handler that runs again gets what its first run got.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import asyncpg

from pgqueue.database.patience import persist
from pgqueue.database.pool import Database
from pgqueue.errors import (
    ContextError,
    InvalidStepError,
    JobCancelled,
    JobDidNotSucceed,
    JobExpired,
    LeaseLostError,
    WorkflowFailed,
)
from pgqueue.model.outcomes import Suspended
from pgqueue.store import Graph, Place, Store
from pgqueue.tasks.canvas import Canvas, Group, canvases_of
from pgqueue.tasks.workflow_handle import ChildHandle
from pgqueue.worker.services.steps import Steps

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class ChildWorkflows(Protocol):
    """What a job does with workflows of its own."""

    def compile(self, canvas: Canvas[Any], parent: UUID) -> Graph:
        """Return the rows of a workflow that job *parent* runs."""

    async def write(self, graph: Graph, connection: Connection) -> None:
        """Write a workflow in the transaction of *connection*."""

    def handle(self, name: str, workflow_id: UUID, root: UUID) -> ChildHandle[Any]:
        """Return the handle of a workflow that step *name* has started."""

    async def has_ended(self, workflow_id: UUID) -> bool:
        """Return whether a workflow has ended. Raises JobNotFoundError."""

    async def result(self, workflow_id: UUID) -> Any:
        """Return what a workflow that has ended came to. Raises JobDidNotSucceed."""


class Children:
    """The child workflows of one attempt."""

    def __init__(
        self,
        database: Database,
        store: Store,
        steps: Steps,
        workflows: ChildWorkflows,
        *,
        job_id: UUID,
        lease_id: UUID,
    ) -> None:
        self._database = database
        self._store = store
        self._steps = steps
        self._workflows = workflows
        self._job_id = job_id
        self._lease_id = lease_id

    async def start(self, name: str, canvas: Canvas[Any], *, is_detached: bool) -> ChildHandle[Any]:
        """Start a workflow, or return the one that step *name* has started.

        Unless it *is_detached*, it is cancelled with the job.
        """
        stored, place = await self._steps.begin("workflow", name, _end_of(name))
        if stored is None:
            graph = self._workflows.compile(canvas, self._job_id)
            document = json.dumps({"workflow_id": str(graph.workflow_id), "root": str(graph.root)})
            stored = await persist(
                f"job {self._job_id}: starting {name!r}",
                lambda: self._write(name, graph, document, place, is_detached=is_detached),
            )
        try:
            ids = json.loads(stored)
            return self._workflows.handle(name, UUID(ids["workflow_id"]), UUID(ids["root"]))
        except (ValueError, TypeError, KeyError):
            raise InvalidStepError(
                f"job {self._job_id}: {name!r} was a step or a wait in an earlier attempt, and starts a "
                "workflow now; give it another name"
            ) from None

    async def _write(self, name: str, graph: Graph, document: str, place: Place, *, is_detached: bool) -> str:
        try:
            async with self._database.acquire() as connection, connection.transaction():
                stored = await self._store.record_step(
                    connection, self._job_id, self._lease_id, name, document, place
                )
                if stored is None:
                    raise LeaseLostError(
                        f"job {self._job_id}: the lease was lost before {name!r} was started; another "
                        "attempt will start it"
                    )
                if stored == document:
                    await self._workflows.write(graph, connection)
                    if not is_detached:
                        await self._store.adopt_workflow(connection, graph.workflow_id, self._job_id)
                return stored
        except asyncpg.UniqueViolationError:
            # Our own earlier try, whose answer was lost.
            return document

    async def add(self, name: str, members: Sequence[Canvas[Any]]) -> None:
        """Add members to the job's group, unless step *name* has. Raises ContextError."""
        stored, place = await self._steps.begin("addition", name)
        if stored is None:
            graph = self._workflows.compile(Group(canvases_of(members, "a member")), self._job_id)
            document = json.dumps({"added": str(graph.workflow_id)})
            stored = await persist(
                f"job {self._job_id}: adding {name!r}", lambda: self._extend(name, graph, document, place)
            )
        if not stored.startswith('{"added": '):
            raise InvalidStepError(
                f"job {self._job_id}: {name!r} was a step or a wait in an earlier attempt, and adds members "
                "now; give it another name"
            )

    async def _extend(self, name: str, graph: Graph, document: str, place: Place) -> str:
        try:
            async with self._database.acquire() as connection, connection.transaction():
                # First: workflows are locked before records, and these before places.
                await self._store.hold_member(connection, self._job_id)
                stored = await self._store.record_step(
                    connection, self._job_id, self._lease_id, name, document, place
                )
                if stored is None:
                    raise LeaseLostError(
                        f"job {self._job_id}: the lease was lost before {name!r} was added; another attempt "
                        "will add it"
                    )
                if stored == document:
                    await self._workflows.write(graph, connection)
                    refusal = await self._store.extend(connection, self._job_id, graph.workflow_id)
                    if refusal is not None:
                        raise ContextError(
                            f"job {self._job_id}: {name!r} cannot be added, because {refusal}; nothing was "
                            "written. A workflow of its own is started by ctx.start()"
                        )
                return stored
        except asyncpg.UniqueViolationError:
            # Our own earlier try, whose answer was lost.
            return document

    async def settle(self, children: Sequence[ChildHandle[Any]]) -> list[Any] | Suspended:
        """Return what child workflows came to, or how the job is to wait for them.

        Raises the error of the first that did not succeed, once all have ended.
        """
        live = [
            child.id
            for child in children
            if await self._steps.stored(_end_of(child.name)) is None
            and not await self._workflows.has_ended(child.workflow_id)
        ]
        if live:
            return Suspended(self._job_id, None, None, None, tuple(live))
        return [await self._result(child) for child in children]

    async def _result(self, child: ChildHandle[Any]) -> Any:
        name = _end_of(child.name)
        stored = await self._steps.stored(name)
        if stored is None:
            try:
                return await self._workflows.result(child.workflow_id)
            except JobDidNotSucceed as error:
                stored = await self._steps.record(name, _told(error))
        failure = _failure(stored, child.workflow_id)
        failure.is_stored = True
        raise failure


def _end_of(name: str) -> str:
    return f"{name}/ended"


def _told(error: JobDidNotSucceed) -> str:
    told: dict[str, Any] = {"kind": type(error).__name__, "job_id": str(error.job_id), "message": str(error)}
    if isinstance(error, WorkflowFailed):
        told |= {
            "task": error.task,
            "reason": error.reason,
            "error_type": error.error_type,
            "error_message": error.error_message,
            "failed": [str(each) for each in error.failed],
        }
    return json.dumps(told)


def _failure(stored: str, workflow_id: UUID) -> JobDidNotSucceed:
    told = json.loads(stored)
    job_id = UUID(told["job_id"])
    if told["kind"] == "WorkflowFailed":
        return WorkflowFailed(
            job_id,
            told["task"],
            reason=told["reason"],
            error_type=told["error_type"],
            error_message=told["error_message"],
            workflow_id=workflow_id,
            failed=[UUID(each) for each in told["failed"]],
        )
    return (JobExpired if told["kind"] == "JobExpired" else JobCancelled)(job_id, told["message"])
