"""A handle of an enqueued workflow."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Generic, Literal, Protocol, TypeVar, cast
from uuid import UUID

from pgqueue.model.jobs import JobStatus
from pgqueue.model.workflows import Workflow

R_co = TypeVar("R_co", covariant=True)


class Workflows(Protocol):
    """What a handle needs of a PgQueue."""

    async def get_workflow(self, workflow_id: UUID) -> Workflow:
        """Read a workflow."""

    async def workflow_result(self, workflow_id: UUID, timeout: float | None) -> Any:  # noqa: ASYNC109
        """Wait for a workflow to end, and return what it comes to."""

    def workflow_results(self, workflow_id: UUID, timeout: float | None) -> AsyncGenerator[Any]:
        """Wait for a workflow to end, and yield the results of its last group."""

    async def join_workflow(self, workflow_id: UUID, timeout: float | None) -> Mapping[JobStatus, int]:  # noqa: ASYNC109
        """Wait until all jobs have ended."""

    async def count_workflow(self, workflow_id: UUID) -> Mapping[JobStatus, int]:
        """Count jobs by status."""

    async def cancel_workflow(
        self, workflow_id: UUID, *, reason: str | None = None, actor: str | None = None
    ) -> int:
        """Cancel all live jobs."""

    async def retry_workflow(
        self, workflow_id: UUID, *, reason: str | None = None, actor: str | None = None
    ) -> int:
        """Redrive all failed jobs."""

    async def draw_workflow(self, workflow_id: UUID, form: Literal["mermaid", "dot", "json"]) -> str:
        """Return the graph."""


class WorkflowHandle(Generic[R_co]):
    """An enqueued workflow: its ids, and ways to read, await and cancel it."""

    __slots__ = ("_queue", "id", "workflow_id")

    def __init__(self, queue: Workflows, workflow_id: UUID, root: UUID) -> None:
        self._queue = queue
        self.workflow_id = workflow_id
        """The id of the whole."""
        self.id = root
        """The id of the last job, whose result is the workflow's; of a group's end, which is no job."""

    async def refresh(self) -> Workflow:
        """Read the workflow as it is now. Raises JobNotFoundError."""
        return await self._queue.get_workflow(self.workflow_id)

    async def status(self) -> JobStatus:
        """Read the status of its end: blocked while jobs before it go on. Raises JobNotFoundError."""
        return (await self.refresh()).status

    async def counts(self) -> Mapping[JobStatus, int]:
        """Count its jobs by status. Statuses that none has are absent."""
        return await self._queue.count_workflow(self.workflow_id)

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109  # the field's word
        """Wait until the workflow has ended, and return what it comes to.

        *timeout* is in seconds. Raises ResultTimeoutError (nothing is cancelled), WorkflowFailed,
        JobCancelled, JobExpired, JobNotFoundError, CodecError, InvalidOptionError.
        """
        return cast(R_co, await self._queue.workflow_result(self.workflow_id, timeout))

    def results(self, timeout: float | None = None) -> AsyncGenerator[Any]:
        """Wait until a group has ended, and yield its results in input order, read by pages of 1,000.

        Of a workflow that does not end with a group, it yields the one result. Raises what `result` raises.
        """
        return self._queue.workflow_results(self.workflow_id, timeout)

    async def join(self, timeout: float | None = None) -> Mapping[JobStatus, int]:  # noqa: ASYNC109  # the field's word
        """Wait until every job of it has ended, however, and return how many ended how.

        Callbacks are jobs of their own, and not waited for. Raises ResultTimeoutError, JobNotFoundError.
        """
        return await self._queue.join_workflow(self.workflow_id, timeout)

    async def cancel(self, *, reason: str | None = None, actor: str | None = None) -> int:
        """Cancel its live jobs, and return how many there were.

        Those that run are asked to stop, and the others never start.
        """
        return await self._queue.cancel_workflow(self.workflow_id, reason=reason, actor=actor)

    async def retry_failed(self, *, reason: str | None = None, actor: str | None = None) -> int:
        """Redrive its failed jobs, and return how many: what was cancelled because of them waits again."""
        return await self._queue.retry_workflow(self.workflow_id, reason=reason, actor=actor)

    async def graph(self, form: Literal["mermaid", "dot", "json"] = "mermaid") -> str:
        """Return its jobs with their statuses, and who waits for whom, as text to draw.

        Raises InvalidOptionError.
        """
        return await self._queue.draw_workflow(self.workflow_id, form)

    def __repr__(self) -> str:
        return f"<WorkflowHandle {self.workflow_id}>"


class ChildHandle(WorkflowHandle[R_co]):
    """A workflow that a job has started by `ctx.start`, for `ctx.wait`."""

    __slots__ = ("name",)

    def __init__(self, queue: Workflows, workflow_id: UUID, root: UUID, name: str) -> None:
        super().__init__(queue, workflow_id, root)
        self.name = name
        """Of the step that started it."""
