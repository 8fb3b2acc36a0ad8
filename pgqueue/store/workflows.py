"""Statements on workflows: write them, attend to what has ended, read, cancel and pause them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus, seconds_between
from pgqueue.model.workflows import Standstill, WorkflowEdge, WorkflowGroup, WorkflowMeasure, WorkflowMember
from pgqueue.store.base import Statements, job_moved
from pgqueue.store.graph import Graph
from pgqueue.store.graph_columns import columns_of
from pgqueue.store.jobs import read_error
from pgqueue.store.values import Settled
from pgqueue.store.workflow_rows import (
    Attended,
    BarrierRow,
    EdgeRow,
    Input,
    InputResults,
    ListedRow,
    NodeRow,
    Swept,
    WorkflowRow,
)

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


NO_LANES: Mapping[tuple[str, int], int] = MappingProxyType({})


class WorkflowStatements(Statements):
    """Statements on workflows."""

    async def submit_workflow(
        self, connection: Connection, graph: Graph, lane_ids: Mapping[tuple[str, int], int] = NO_LANES
    ) -> Settled:
        """Write a workflow, or a part of one, in one statement. All or nothing.

        *lane_ids*: by queue and priority, for a transaction that may not see the lanes.
        Returns the lanes that have new ready jobs; and notes, if it waits for jobs that were there before.
        Raises asyncpg.UniqueViolationError if the workflow, or one of its jobs, exists.
        """
        settled = Settled()
        settled.add(
            await connection.fetchval(
                self._sql["submit_workflow"], *columns_of(graph, lane_ids, self._document)
            )
        )
        return settled

    async def adopt_workflow(self, connection: Connection, workflow_id: UUID, parent: UUID) -> None:
        """Have a workflow be cancelled with the job that starts it, in the transaction that writes it."""
        await connection.execute(self._sql["adopt_workflow"], workflow_id, parent)

    async def hold_member(self, connection: Connection, job_id: UUID) -> None:
        """Lock the workflows around a job, and its record, until the transaction ends."""
        await connection.execute(self._sql["hold_member"], job_id)

    async def extend(self, connection: Connection, job_id: UUID, added: UUID) -> str | None:
        """Move the members of a workflow, written in this transaction, to the group of a running job.

        None: they were. Otherwise why not.
        """
        refusal: str | None = await connection.fetchval(self._sql["extend"], job_id, added)
        return refusal

    async def find_notes(
        self, connection: Connection, limit: int, without: Iterable[int], within: float
    ) -> list[tuple[int, float]]:
        """Return up to *limit* notes, except *without*, that are due *within* so many seconds, and when."""
        rows = await connection.fetch(self._sql["find_notes"], limit, list(without), within, uuid4())
        return [(row["id"], row["due"]) for row in rows]

    async def attend(self, connection: Connection, notes: Sequence[int] | None, most: int) -> Attended:
        """Attend to up to *most* of *notes*; None: of whatever was noted. In a transaction of its own."""
        row = await connection.fetchrow(self._sql["attend"], notes, most)
        assert row is not None
        later = tuple(zip(row["later"] or (), row["due"] or (), strict=True))
        return Attended(row["taken"], row["more"] or (), row["lanes"], row["cancelled"], later)

    async def sweep_edges(self, connection: Connection, after: UUID, limit: int, older_than: float) -> Swept:
        """Note what ended *older_than* seconds ago, and was not counted, before the next waiting nodes."""
        row = await connection.fetchrow(self._sql["sweep_edges"], after, limit, timedelta(seconds=older_than))
        assert row is not None
        return Swept(row["looked"], row["reached"], row["noted"])

    async def read_workflow(self, connection: Connection, workflow_id: UUID) -> WorkflowRow | None:
        """Return a workflow, or None."""
        row = await connection.fetchrow(self._sql["read_workflow"], workflow_id)
        return None if row is None else WorkflowRow._make(row)

    async def count_nodes(self, connection: Connection, workflow_id: UUID) -> dict[JobStatus, int]:
        """Return how many jobs of a workflow have each status."""
        rows = await connection.fetch(self._sql["count_nodes"], workflow_id)
        return {JobStatus(row["status"]): row["jobs"] for row in rows}

    async def list_workflows(
        self, connection: Connection, low: UUID, high: UUID, limit: int
    ) -> list[ListedRow]:
        """Return the newest workflows with ids from *low* to *high*."""
        return [
            ListedRow._make(row)
            for row in await connection.fetch(self._sql["list_workflows"], low, high, limit)
        ]

    async def count_members(
        self, connection: Connection, workflows: Iterable[UUID], most: int
    ) -> dict[UUID, dict[JobStatus, int]]:
        """Return how many of the first *most* jobs of each workflow have each status."""
        counts: dict[UUID, dict[JobStatus, int]] = {each: {} for each in workflows}
        for row in await connection.fetch(self._sql["count_members"], list(counts), most):
            counts[row["workflow_id"]][JobStatus(row["status"])] = row["jobs"]
        return counts

    async def list_members(
        self,
        connection: Connection,
        workflow_id: UUID,
        behind: tuple[bool, UUID],
        limit: int,
        status: JobStatus | None = None,
    ) -> list[WorkflowMember]:
        """Return the next jobs of a workflow: those that failed, then the others, each by id.

        *behind*: whether the last one seen is no failed one, and its id.
        """
        rows = await connection.fetch(
            self._sql["list_members"], workflow_id, *behind, limit, None if status is None else status.value
        )
        return [
            WorkflowMember(
                id=row["id"],
                task=row["task"],
                # Without a place it waits to be put right.
                status=JobStatus(row["status"] or JobStatus.PENDING),
                reason=row["reason"],
                created_at=row["created_at"],
                completed_at=row["completed_at"],
                started_at=row["started_at"],
                attempt=row["attempt"],
                has_result=row["has_result"],
                error=read_error(row["error"]),
                took=seconds_between(row["attempt_started_at"], row["attempt_ended_at"]),
            )
            for row in rows
        ]

    async def measure_workflows(self, connection: Connection) -> WorkflowMeasure:
        """Return what there is of workflows."""
        row = await connection.fetchrow(self._sql["measure_workflows"])
        assert row is not None
        return WorkflowMeasure(
            ended=dict(zip(map(JobStatus, row["statuses"]), row["ended"], strict=True)),
            live=row["live"],
            paused=row["paused"],
            oldest_age=row["oldest_age"],
            stalled=row["stalled"],
            stalled_age=row["stalled_age"],
            barriers=row["barriers"],
        )

    async def watch_workflows(
        self, connection: Connection, after: UUID, limit: int
    ) -> tuple[int, UUID | None]:
        """Note which of the next open workflows behind id *after* have ended, and which stand still.

        Returns how many were looked at, and the last of them; None: there was none.
        """
        row = await connection.fetchrow(self._sql["watch_workflows"], after, limit)
        assert row is not None
        return row["looked"], row["reached"]

    async def read_standstill(self, connection: Connection, workflow_id: UUID) -> Standstill | None:
        """Return what an open workflow stands still for; None: it does not."""
        row = await connection.fetchrow(self._sql["read_standstill"], workflow_id)
        return None if row is None else Standstill(row["id"], row["task"], row["waits"], row["is_blocked"])

    async def find_workflow_of(self, connection: Connection, job_id: UUID) -> UUID | None:
        """Return the workflow that a job belongs to, or None."""
        workflow_id: UUID | None = await connection.fetchval(self._sql["find_workflow_of"], job_id)
        return workflow_id

    async def list_nodes(
        self,
        connection: Connection,
        workflow_id: UUID,
        after: UUID,
        limit: int,
        status: JobStatus | None = None,
    ) -> list[NodeRow]:
        """Return the next jobs of a workflow behind id *after*."""
        rows = await connection.fetch(
            self._sql["list_nodes"], workflow_id, after, limit, None if status is None else status.value
        )
        return [NodeRow._make(row) for row in rows]

    async def fold_nodes(
        self, connection: Connection, workflow_id: UUID, most: int
    ) -> tuple[list[WorkflowGroup], list[WorkflowEdge]]:
        """Return the jobs of a workflow, more than *most* alike ones as one, and the edges between them."""
        counts: defaultdict[tuple[UUID, str], dict[JobStatus, int]] = defaultdict(dict)
        edges: list[WorkflowEdge] = []
        for row in await connection.fetch(self._sql["fold_nodes"], workflow_id, most):
            if row["task"] is None:
                edges.append(WorkflowEdge(row["id"], row["leads_to"], 0))
            else:
                counts[row["id"], row["task"]][JobStatus(row["status"])] = row["jobs"]
        return [WorkflowGroup(*node, each) for node, each in counts.items()], edges

    async def list_edges(self, connection: Connection, nodes: Iterable[UUID]) -> list[EdgeRow]:
        """Return the edges that lead from *nodes*, by what they lead to and in the order of inputs."""
        return [EdgeRow._make(row) for row in await connection.fetch(self._sql["list_edges"], list(nodes))]

    async def read_barrier(self, connection: Connection, node_id: UUID) -> BarrierRow | None:
        """Return the barrier of a node; None: it is a link of a chain, waits for nothing, or is gone."""
        row = await connection.fetchrow(self._sql["read_barrier"], node_id)
        return None if row is None else BarrierRow._make(row)

    async def read_inputs(
        self, connection: Connection, node_id: UUID, after: int = -1, limit: int = 1000
    ) -> list[Input]:
        """Return the next inputs of a node behind position *after*, in order."""
        rows = await connection.fetch(self._sql["read_inputs"], node_id, after, limit)
        return [Input._make(row) for row in rows]

    async def read_results(
        self, connection: Connection, node_id: UUID, after: int, limit: int, *, succeeded: bool
    ) -> InputResults:
        """Return the results of the next inputs of a node behind position *after*; or of *succeeded* ones."""
        row = await connection.fetchrow(self._sql["read_results"], node_id, after, limit, succeeded)
        assert row is not None
        return InputResults._make(row)

    async def cancel_workflow(
        self,
        connection: Connection,
        workflow_id: UUID,
        after: UUID,
        limit: int,
        reason: str | None,
        actor: str | None,
    ) -> tuple[list[JobMoved], list[JobMoved]]:
        """Cancel the next live jobs of a workflow behind id *after*; idempotent.

        Returns those that were waiting, and those that are running. Call it again behind the last of them,
        in another transaction, until there are none.
        """
        rows = await connection.fetch(self._sql["cancel_workflow"], workflow_id, after, limit, reason, actor)
        return (
            [job_moved(row, JobStatus.CANCELLED) for row in rows if row["answer"] == "cancelled"],
            [
                job_moved(row, JobStatus.RUNNING)._replace(before=JobStatus.RUNNING)
                for row in rows
                if row["answer"] != "cancelled"
            ],
        )

    async def pause_workflow(
        self,
        connection: Connection,
        workflow_id: UUID,
        *,
        paused: bool,
        reason: str | None = None,
        actor: str | None = None,
    ) -> list[int] | None:
        """Pause a workflow or let it go on; return lanes with new ready jobs, or None if there is none."""
        lanes: list[int] | None = await connection.fetchval(
            self._sql["pause_workflow"], workflow_id, paused, reason, actor
        )
        return lanes
