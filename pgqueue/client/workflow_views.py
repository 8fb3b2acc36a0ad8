"""Workflows as operators see them: lists, counts, their jobs by page, their graphs; pausing, resuming."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.client.parts import Parts
from pgqueue.errors import InvalidFilterError, JobNotFoundError, PgQueueError, WorkflowNotFoundError
from pgqueue.model.checks import check_notes, shown
from pgqueue.model.filters import (
    FIRST_ID,
    LAST_ID,
    check_filter,
    check_limit,
    decode_cursor,
    encode_cursor,
    read_statuses,
)
from pgqueue.model.ids import read_id
from pgqueue.model.jobs import Action, JobStatus
from pgqueue.model.workflows import (
    MemberPage,
    Standstill,
    WorkflowDetails,
    WorkflowEdge,
    WorkflowFilter,
    WorkflowGroup,
    WorkflowJob,
    WorkflowMeasure,
    WorkflowPage,
)
from pgqueue.store import ListedRow
from pgqueue.workflows.export import GraphFormat, check_format, export

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

EVERY_WORKFLOW: Final = WorkflowFilter()
PAGE: Final = 1000
"""Jobs that one read of a graph returns."""
ALIKE: Final = 4
"""As many alike jobs are nodes of their own, at most, where a workflow is folded."""
COUNTED: Final = 10_000
"""Jobs of one workflow that a list counts, at most."""
LOOKS: Final = 1000
"""Workflows that one read of a search looks at."""
READS: Final = 10
"""Reads per page. Beyond them its search is cut short."""
FAILED, OTHER = "f.", "o."
"""How the cursor of a workflow's jobs begins: among those that failed, or among the others."""


class WorkflowViewInterface(Parts):
    """What operators see of workflows."""

    async def workflows(
        self, chosen: WorkflowFilter = EVERY_WORKFLOW, *, limit: int = 25, cursor: str | None = None
    ) -> WorkflowPage:
        """Return workflows, newest first, with their counts. Raises InvalidFilterError.

        The counts are None for a workflow of more than 10,000 jobs: `workflow_details` counts those. A search
        that looked at 10,000 workflows ends, and its page says that it was cut short.
        """
        check_filter("workflows", chosen, WorkflowFilter)
        limit, high = check_limit(limit), decode_cursor(cursor)
        if high is None:
            return WorkflowPage([], None)
        async with self._database.acquire() as connection:
            found, reached = await self._search(connection, chosen, limit, high)
            counts = await self._store.count_members(connection, [each.id for each in found], COUNTED + 1)
        return WorkflowPage(
            [replace(each, counts=_if_counted(counts[each.id])) for each in found],
            None if reached is None else encode_cursor(reached),
            is_cut_short=reached is not None and len(found) < limit,
        )

    async def _search(
        self, connection: Connection, chosen: WorkflowFilter, limit: int, high: UUID
    ) -> tuple[list[WorkflowDetails], UUID | None]:
        """Return up to *limit* workflows, and behind which id the next page begins; None: there is none."""
        found: list[WorkflowDetails] = []
        # One more than the page has tells whether there is another.
        looks = limit + 1 if chosen == EVERY_WORKFLOW else LOOKS
        for _ in range(READS):
            rows = await self._store.list_workflows(connection, FIRST_ID, high, looks)
            for workflow in map(_details, rows):
                if workflow is None or not chosen.matches(workflow):
                    continue
                if len(found) == limit:
                    return found, found[-1].id
                found.append(workflow)
            if len(rows) < looks:
                return found, None
            high = UUID(int=rows[-1].id.int - 1)
        return found, UUID(int=high.int + 1)

    async def workflow_details(self, workflow_id: UUID | str) -> WorkflowDetails:
        """Return a workflow as it is now, with its counts. Raises WorkflowNotFoundError."""
        workflow_id = read_id(workflow_id)
        async with self._database.acquire() as connection:
            rows = await self._store.list_workflows(connection, workflow_id, workflow_id, 1)
            found = _details(rows[0]) if rows else None
            if found is None:
                raise await self._no_workflow(connection, workflow_id)
            return replace(found, counts=await self._store.count_nodes(connection, workflow_id))

    async def workflow_jobs(
        self,
        workflow_id: UUID | str,
        *,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> MemberPage:
        """Return jobs of a workflow: those that failed first, then the others in the order of their ids.

        *status*: those alone that have it. A workflow that does not exist has none.
        Raises InvalidFilterError.
        """
        workflow_id, limit, behind = read_id(workflow_id), check_limit(limit), _place_of(cursor)
        chosen = None if status is None else next(iter(read_statuses(status) or ()))
        async with self._database.acquire() as connection:
            jobs = await self._store.list_members(connection, workflow_id, behind, limit + 1, chosen)
        last = jobs[limit - 1] if len(jobs) > limit else None
        return MemberPage(
            jobs[:limit],
            None
            if last is None
            else (FAILED if last.status is JobStatus.FAILED else OTHER) + encode_cursor(last.id),
        )

    async def measure_workflows(self) -> WorkflowMeasure:
        """Return how many workflows there are. The cost grows with those that have not ended, and slowly."""
        async with self._database.acquire() as connection:
            return await self._store.measure_workflows(connection)

    async def find_standstill(self, workflow_id: UUID | str) -> Standstill | None:
        """Return what a workflow stands still for now.

        None: something in it moves or will by itself, it is paused, it has ended, or there is none.
        """
        workflow_id = read_id(workflow_id)
        async with self._database.acquire() as connection:
            return await self._store.read_standstill(connection, workflow_id)

    async def workflow_actions(self, workflow_id: UUID | str) -> list[Action]:
        """Return when a workflow was paused and resumed, by whom and why, oldest first."""
        workflow_id = read_id(workflow_id)
        async with self._database.acquire() as connection:
            return await self._store.read_actions(connection, workflow_id)

    async def workflow_of(self, job_id: UUID | str) -> UUID | None:
        """Return the id of the workflow that a job belongs to; None: to none."""
        job_id = read_id(job_id)
        async with self._database.acquire() as connection:
            return await self._store.find_workflow_of(connection, job_id)

    async def draw_workflow(self, workflow_id: UUID | str, form: GraphFormat = "mermaid") -> str:
        """Return the graph of a workflow. See WorkflowHandle.graph."""
        check_format(form)
        return export(*await self.read_graph(workflow_id), form)

    async def read_graph(
        self, workflow_id: UUID | str
    ) -> tuple[WorkflowDetails, list[WorkflowJob], list[WorkflowEdge]]:
        """Return a workflow, its jobs, and who waits for whom. Raises WorkflowNotFoundError."""
        workflow = await self.workflow_details(workflow_id)
        jobs = [job async for job in self._jobs_of_workflow(workflow.id, None)]
        edges: list[WorkflowEdge] = []
        ends = [job.id for job in jobs]
        while ends:
            async with self._database.acquire() as connection:
                rows = await self._store.list_edges(connection, ends)
            edges += [WorkflowEdge(row.upstream, row.downstream, row.position) for row in rows]
            ends = sorted({row.downstream for row in rows if row.to_join})
        return workflow, jobs, _within(workflow.root, {job.id for job in jobs}, edges)

    async def fold_workflow(self, workflow_id: UUID | str) -> tuple[list[WorkflowGroup], list[WorkflowEdge]]:
        """Return a workflow as `read_graph` does, with more than four jobs that are alike as one node.

        Alike are those of one task that wait for the same nodes, and are waited for by the same. So a chord
        of 10,000 is two nodes, counted by the database. Raises WorkflowNotFoundError.
        """
        workflow_id = read_id(workflow_id)
        async with self._database.acquire() as connection:
            workflow = await self._store.read_workflow(connection, workflow_id)
            if workflow is None:
                raise await self._no_workflow(connection, workflow_id)
            groups, edges = await self._store.fold_nodes(connection, workflow_id, ALIKE)
        return groups, _within(workflow.root, {group.id for group in groups}, edges)

    async def _jobs_of_workflow(
        self, workflow_id: UUID, status: JobStatus | None
    ) -> AsyncIterator[WorkflowJob]:
        after = FIRST_ID
        while True:
            async with self._database.acquire() as connection:
                rows = await self._store.list_nodes(connection, workflow_id, after, PAGE, status=status)
            for row in rows:
                if row.status is not None:
                    now = JobStatus(row.status)
                    yield WorkflowJob(row.id, row.task, now, row.reason, row.created_at, row.completed_at)
            if len(rows) < PAGE:
                return
            after = rows[-1].id

    async def pause_workflow(
        self, workflow_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> None:
        """Pause a workflow: what is ready or running goes on, and what waits for others stays.

        *actor* and *reason* are recorded in its history. Raises WorkflowNotFoundError and InvalidOptionError.
        """
        await self._pause_workflow(read_id(workflow_id), paused=True, reason=reason, actor=actor)

    async def resume_workflow(
        self, workflow_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> None:
        """Let a paused workflow go on. See pause_workflow."""
        await self._pause_workflow(read_id(workflow_id), paused=False, reason=reason, actor=actor)

    async def _pause_workflow(
        self, workflow_id: UUID, *, paused: bool, reason: str | None, actor: str | None
    ) -> None:
        check_notes("pause" if paused else "resume", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            lanes = await self._store.pause_workflow(
                connection, workflow_id, paused=paused, reason=reason, actor=actor
            )
            if lanes is None:
                raise await self._no_workflow(connection, workflow_id)
        for lane in lanes:
            self._signals.publish(f"ready {lane}")
        if not paused:
            self._signals.publish("attend")

    async def _no_workflow(self, connection: Connection, workflow_id: UUID) -> PgQueueError:
        """Return the error for a workflow that does not exist, or that is hidden from this role."""
        error = await self._missing(connection, workflow_id)
        return WorkflowNotFoundError(workflow_id) if type(error) is JobNotFoundError else error


def _details(row: ListedRow) -> WorkflowDetails | None:
    """Return the workflow; None: its root was removed."""
    if row.status is None:
        return None
    return WorkflowDetails(
        id=row.id,
        root=row.root,
        name=row.name,
        status=JobStatus(row.status),
        created_at=row.created_at,
        paused_at=row.paused_at,
        parent_job=row.parent_job,
        is_group=row.is_group,
        completed_at=row.completed_at,
        stalled_at=row.stalled_at,
        counts=None,
    )


def _within(root: UUID, known: set[UUID], edges: list[WorkflowEdge]) -> list[WorkflowEdge]:
    """Return those of *edges* that lead to a node of the workflow: one that is *known*, or a join."""
    # Callbacks take inputs of the workflow, and are no part of it.
    joins = {edge.upstream for edge in edges} - known | {root}
    return [edge for edge in edges if edge.downstream in known or edge.downstream in joins]


def _if_counted(counts: dict[JobStatus, int]) -> dict[JobStatus, int] | None:
    return counts if sum(counts.values()) <= COUNTED else None


def _place_of(cursor: str | None) -> tuple[bool, UUID]:
    """Return behind which place a page of jobs begins. Raises InvalidFilterError."""
    if cursor is None:
        return False, FIRST_ID
    kind, place = (cursor[:2], cursor[2:]) if isinstance(cursor, str) else ("", "")
    if kind not in (FAILED, OTHER):
        raise InvalidFilterError(
            f"invalid cursor {shown(cursor)}: use one returned with a page, or omit it to start over"
        )
    below = decode_cursor(place)
    return kind == OTHER, FIRST_ID if below is None else min(UUID(int=below.int + 1), LAST_ID)
