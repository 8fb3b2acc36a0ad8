"""Workflows: enqueued, read, awaited, cancelled and retried."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import anyio

from pgqueue.client.dead_letters import DeadLetterInterface
from pgqueue.client.enqueueing import EnqueueInterface
from pgqueue.client.workflow_views import WorkflowViewInterface
from pgqueue.enqueueing.callers import Within
from pgqueue.enqueueing.workflow_writer import Parts
from pgqueue.enqueueing.writer import PART
from pgqueue.errors import (
    CodecError,
    InvalidWorkflowError,
    JobCancelled,
    NotADeadLetterError,
    ResultTimeoutError,
    WorkflowFailed,
)
from pgqueue.model.checks import check_notes, patience, shown, text
from pgqueue.model.filters import FIRST_ID
from pgqueue.model.ids import read_id
from pgqueue.model.jobs import TERMINAL, JobStatus
from pgqueue.model.workflows import Workflow
from pgqueue.store import Graph, Input
from pgqueue.tasks.canvas import Canvas, canvas_of
from pgqueue.tasks.middleware import around_workflow
from pgqueue.tasks.refusals import THEIRS, describe_mismatch
from pgqueue.tasks.workflow_handle import WorkflowHandle
from pgqueue.workflows.compile import compile_parts
from pgqueue.workflows.dag import MAX_NAME, WorkflowBuilder
from pgqueue.workflows.reading import WorkflowReader

if TYPE_CHECKING:
    from pgqueue.database.callers import CallersConnection

A = TypeVar("A")

PAGE: Final = 1000
CANCELLED_AT_ONCE: Final = 500
"""Jobs that one transaction cancels."""
_PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between two looks at a workflow that is awaited: the end of a group is no job, nor announced."""


class WorkflowInterface(EnqueueInterface, DeadLetterInterface, WorkflowViewInterface):
    """What users can do with workflows."""

    def workflow(self, name: str) -> WorkflowBuilder:
        """Return a builder of a workflow by its nodes. Raises InvalidOptionError."""
        return WorkflowBuilder(text("the name of a workflow", name, longest=MAX_NAME), self)

    def workflow_handle(self, workflow_id: UUID | str) -> WorkflowHandle[Any]:
        """Return a handle of a workflow by its `workflow_id`. No I/O: it may not exist."""
        workflow_id = read_id(workflow_id)
        return WorkflowHandle(self, workflow_id, workflow_id)

    async def enqueue_workflow(
        self, canvas: Canvas[A], *, connection: CallersConnection | None = None, autocommit: bool = False
    ) -> WorkflowHandle[A]:
        """Enqueue composed calls: see Canvas.enqueue."""
        self._check_open()
        canvas = canvas_of(canvas, "a workflow")
        parts = compile_parts(canvas, self._workflow_reader, PART)
        return await self._enqueue_parts(parts, connection, autocommit=autocommit)

    async def enqueue_dag(
        self, dag: WorkflowBuilder, *, connection: CallersConnection | None = None, autocommit: bool = False
    ) -> WorkflowHandle[Any]:
        """Enqueue a built workflow: see WorkflowBuilder.enqueue."""
        self._check_open()
        if not isinstance(dag, WorkflowBuilder):
            raise InvalidWorkflowError(f"a workflow must be made by pgq.workflow(...), got {shown(dag)}")
        parts = dag.compile(self._workflow_reader, PART)
        return await self._enqueue_parts(parts, connection, autocommit=autocommit)

    @property
    def _workflow_reader(self) -> WorkflowReader:
        return WorkflowReader(self._reader, self)

    async def _enqueue_parts(
        self, compiled: Iterator[Graph], connection: CallersConnection | None, *, autocommit: bool
    ) -> WorkflowHandle[Any]:
        within = None if connection is None else Within(connection, autocommit=autocommit)
        if not self._around_workflows:
            return await self._write_parts(compiled, within)
        write = partial(self._write_parts, compiled, within)
        return await around_workflow(self._around_workflows, write)

    async def _write_parts(self, compiled: Iterator[Graph], within: Within | None) -> WorkflowHandle[Any]:
        parts = Parts(compiled)
        parts.take()
        if within is None:
            await self._write_workflow(parts, None)
        else:
            async with self._callers.using("enqueue", within) as connection:
                await self._write_workflow(parts, connection)
        return WorkflowHandle(self, parts.taken[0].workflow_id, parts.root)

    async def get_workflow(self, workflow_id: UUID | str) -> Workflow:
        """Return a workflow as it is now. Raises JobNotFoundError."""
        workflow_id = read_id(workflow_id)
        async with self._database.acquire() as connection:
            row = await self._store.read_workflow(connection, workflow_id)
            if row is None or row.status is None:
                raise await self._missing(connection, workflow_id)
        return Workflow(
            row.id, row.root, row.name, JobStatus(row.status), row.created_at, row.paused_at, row.parent_job
        )

    async def count_workflow(self, workflow_id: UUID | str) -> Mapping[JobStatus, int]:
        """Count the jobs of a workflow by status."""
        workflow_id = read_id(workflow_id)
        async with self._database.acquire() as connection:
            return await self._store.count_nodes(connection, workflow_id)

    # Results

    async def workflow_result(
        self,
        workflow_id: UUID | str,
        timeout: float | None = None,  # noqa: ASYNC109  # the field's word
    ) -> Any:
        """Wait until a workflow has ended, and return what it comes to. See WorkflowHandle.result."""
        workflow_id = read_id(workflow_id)
        workflow, is_group = await self._ended(workflow_id, timeout)
        if not is_group:
            return await self._root_result(workflow)
        return [value async for page in self._pages(workflow.root) for value in page]

    async def workflow_results(
        self,
        workflow_id: UUID | str,
        timeout: float | None = None,  # noqa: ASYNC109  # the field's word
    ) -> AsyncGenerator[Any]:
        """Wait until a workflow has ended, and yield its results. See WorkflowHandle.results."""
        workflow_id = read_id(workflow_id)
        workflow, is_group = await self._ended(workflow_id, timeout)
        if not is_group:
            yield await self._root_result(workflow)
            return
        async for page in self._pages(workflow.root):
            for value in page:
                yield value

    async def _ended(self, workflow_id: UUID, timeout: float | None) -> tuple[Workflow, bool]:  # noqa: ASYNC109
        """Wait for a workflow to end; return it, and whether its root is a group's. Raises if it failed."""
        timeout = patience("result: timeout", timeout)
        self._check_reads()
        try:
            with anyio.fail_after(timeout):
                workflow = await self._wait_for_root(workflow_id)
        except TimeoutError as error:
            raise _timed_out(workflow_id, timeout) from error
        async with self._database.acquire() as connection:
            barrier = await self._store.read_barrier(connection, workflow.root)
        is_group = barrier is not None and barrier.is_join
        if workflow.status is not JobStatus.SUCCEEDED:
            await self._raise_failure(workflow, is_group=is_group)
        return workflow, is_group

    async def _wait_for_root(self, workflow_id: UUID) -> Workflow:
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            workflow = await self.get_workflow(workflow_id)
            if workflow.status in TERMINAL:
                return workflow
            await anyio.sleep(pause)
        raise AssertionError("unreachable")

    async def _root_result(self, workflow: Workflow) -> Any:
        return self.decode_result(None, await self.get(workflow.root))

    async def _raise_failure(self, workflow: Workflow, *, is_group: bool) -> None:
        """Raise the error because of which a workflow failed: that of the job that failed first."""
        root = None if is_group else await self.get(workflow.root)
        if root is not None and root.status is JobStatus.EXPIRED:
            self.decode_result(None, root)
        async with self._database.acquire() as connection:
            failed = await self._store.list_nodes(
                connection, workflow.id, FIRST_ID, PAGE, status=JobStatus.FAILED
            )
        if not failed:
            if root is not None:
                self.decode_result(None, root)
            raise JobCancelled(
                workflow.root, f"workflow {workflow.id} did not succeed: jobs of it were cancelled"
            )
        first = await self.get(failed[0].id)
        raise WorkflowFailed(
            first.id,
            first.task,
            reason=first.reason or "failed",
            error_type=first.error.type if first.error else "",
            error_message=first.error.message if first.error else "",
            workflow_id=workflow.id,
            failed=[row.id for row in failed],
        )

    async def _pages(self, node: UUID) -> AsyncIterator[list[Any]]:
        """Yield what is before a group's end, page by page."""
        after = -1
        while True:
            async with self._database.acquire() as connection:
                rows = await self._store.read_inputs(connection, node, after, PAGE)
            tasks = await self._tasks_of([row.upstream for row in rows if not row.is_join])
            yield [await self._value_of(row, tasks) for row in rows]
            if len(rows) < PAGE:
                return
            after = rows[-1].position

    async def _tasks_of(self, ids: list[UUID]) -> dict[UUID, str]:
        async with self._database.acquire() as connection:
            return {
                job_id: job.task for job_id, job in (await self._store.read_jobs(connection, ids)).items()
            }

    async def _value_of(self, row: Input, tasks: Mapping[UUID, str]) -> Any:
        if row.is_join:
            return [value async for page in self._pages(row.upstream) for value in page]
        if row.result is None:
            return None
        definition = self.registry.get(tasks.get(row.upstream, ""))
        try:
            stored = row.result if self._codec is None else self._codec.decode(row.result)
            return json.loads(stored) if definition is None else definition.result.decode(stored)
        except THEIRS as error:
            # The codec's and the validators' are the user's, and may be any.
            raise CodecError(row.upstream, "result", describe_mismatch(error)) from None

    async def join_workflow(
        self,
        workflow_id: UUID | str,
        timeout: float | None = None,  # noqa: ASYNC109  # the field's word
    ) -> Mapping[JobStatus, int]:
        """Wait until all jobs of a workflow have ended. See WorkflowHandle.join."""
        workflow_id = read_id(workflow_id)
        timeout = patience("join: timeout", timeout)
        self._check_reads()
        try:
            with anyio.fail_after(timeout):
                await self._wait_for_root(workflow_id)
                for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
                    counts = await self.count_workflow(workflow_id)
                    if counts.keys() <= TERMINAL:
                        return counts
                    await anyio.sleep(pause)
        except TimeoutError as error:
            raise _timed_out(workflow_id, timeout) from error
        raise AssertionError("unreachable")

    # Changing

    async def cancel_workflow(
        self, workflow_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> int:
        """Cancel the live jobs of a workflow. See WorkflowHandle.cancel. Raises InvalidOptionError."""
        workflow_id = read_id(workflow_id)
        check_notes("cancel", actor=actor, reason=reason)
        after, count = FIRST_ID, 0
        while True:
            async with self._database.acquire() as connection:
                cancelled, requested = await self._store.cancel_workflow(
                    connection, workflow_id, after, CANCELLED_AT_ONCE, reason, actor
                )
            self._tell_cancelled(cancelled, requested, reason)
            ids = [job.job_id for job in (*cancelled, *requested)]
            if not ids:
                return count
            count += len(ids)
            after = max(ids)

    async def retry_workflow(
        self, workflow_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> int:
        """Redrive the failed jobs of a workflow. See WorkflowHandle.retry_failed."""
        workflow_id = read_id(workflow_id)
        count = 0
        async for job in self._jobs_of_workflow(workflow_id, JobStatus.FAILED):
            try:
                await self.redrive(job.id, reason=reason, actor=actor)
            except NotADeadLetterError:
                # Somebody else was faster, or it was discarded.
                continue
            count += 1
        return count


def _timed_out(workflow_id: UUID, timeout: float | None) -> ResultTimeoutError:
    return ResultTimeoutError(
        f"workflow {workflow_id} did not finish within {timeout:g} s; it was not cancelled. "
        "Wait again, or cancel it"
    )
