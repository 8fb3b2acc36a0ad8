"""Workflows that jobs start: compiled and written as any other, on the connection of the job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgqueue.model.jobs import TERMINAL
from pgqueue.store import Graph
from pgqueue.tasks.canvas import Canvas, canvas_of
from pgqueue.tasks.workflow_handle import ChildHandle, Workflows
from pgqueue.workflows.compile import compile_canvas
from pgqueue.workflows.reading import WorkflowReader

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

Write = Callable[[Graph, "Connection | None"], Awaitable[None]]


class ChildWorkflows:
    """What the handlers of a PgQueue's jobs do with workflows of their own."""

    def __init__(self, queue: Workflows, reader: WorkflowReader, write: Write) -> None:
        self._queue = queue
        self._reader = reader
        self._write = write

    def compile(self, canvas: Canvas[Any], parent: UUID) -> Graph:
        """Return the rows of *canvas*, run by job *parent*. Raises what Canvas.enqueue raises."""
        canvas = canvas_of(canvas, "a child workflow")
        return replace(compile_canvas(canvas, self._reader), parent_job=parent)

    async def write(self, graph: Graph, connection: Connection) -> None:
        """Write a workflow in the transaction of *connection*."""
        await self._write(graph, connection)

    def handle(self, name: str, workflow_id: UUID, root: UUID) -> ChildHandle[Any]:
        """Return the handle of a workflow that step *name* has started."""
        return ChildHandle(self._queue, workflow_id, root, name)

    async def has_ended(self, workflow_id: UUID) -> bool:
        """Return whether a workflow has ended. Raises JobNotFoundError."""
        return (await self._queue.get_workflow(workflow_id)).status in TERMINAL

    async def result(self, workflow_id: UUID) -> Any:
        """Return what a workflow that has ended came to. Raises JobDidNotSucceed, CodecError."""
        return await self._queue.workflow_result(workflow_id, None)
