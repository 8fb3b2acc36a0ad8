"""Statements on workflows: write them, attend to what has ended, read, cancel and pause them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID, uuid4

from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus, seconds_between
from pgqueue.model.workflows import Standstill, WorkflowEdge, WorkflowGroup, WorkflowMeasure, WorkflowMember
from pgqueue.store.base import Statements, id_list, job_moved
from pgqueue.store.graph import Barrier, Graph
from pgqueue.store.jobs import read_error
from pgqueue.store.values import Settled, Template

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

LEADS_ON: Final = 1
"""A trait of a job, which these are sums of: it has an edge to another node."""
TAKES_INPUTS: Final = 2
WAITS: Final = 4
CALLS_BACK: Final = 8
WEBHOOKS: Final = 64


NO_LANES: Mapping[tuple[str, int], int] = MappingProxyType({})


class Attended(NamedTuple):
    """What attending to notes has brought about. `more`: the notes that follow from it."""

    taken: int
    more: Sequence[int]
    lanes: Sequence[int]
    cancelled: Sequence[UUID]
    later: Sequence[tuple[int, float]]
    """Notes that are to be attended to in so many seconds."""


class WorkflowRow(NamedTuple):
    """A workflow. `status`: that of its root, or None if the root was removed."""

    id: UUID
    root: UUID
    name: str | None
    parent_job: UUID | None
    created_at: datetime
    paused_at: datetime | None
    status: str | None


class ListedRow(NamedTuple):
    """A workflow in a list. `is_group`: its root is the end of a group, which is no job."""

    id: UUID
    root: UUID
    name: str | None
    parent_job: UUID | None
    created_at: datetime
    paused_at: datetime | None
    stalled_at: datetime | None
    status: str | None
    is_group: bool
    completed_at: datetime | None


class NodeRow(NamedTuple):
    """A job of a workflow."""

    id: UUID
    task: str
    status: str | None
    reason: str | None
    created_at: datetime
    completed_at: datetime | None


class EdgeRow(NamedTuple):
    """An edge of a workflow. `outcome`: of the upstream, once it was counted."""

    upstream: UUID
    downstream: UUID
    position: int
    outcome: str | None
    to_join: bool


class BarrierRow(NamedTuple):
    """A barrier, and how far it is. `state`: 'fired', 'failed', or None while it is open."""

    id: UUID
    is_join: bool
    needs: int | None
    runs_anyway: bool
    fail_fast: bool
    total: int
    open: int
    failed: int
    state: str | None


class Input(NamedTuple):
    """What one node before another has come to. One that `is_join` has inputs of its own.

    `status`: None, if it has not ended or was removed. `result`, `error`: JSON.
    """

    upstream: UUID
    position: int
    is_join: bool
    status: str | None
    result: str | None
    reason: str | None
    error: str | None


class InputResults(NamedTuple):
    """The results of some inputs of a node, as JSON, in order; None: not stored, or not kept.

    `reached`: the position of the last input. If one of them is a join, whose results are those of others,
    it `has_joins` and no results.
    """

    reached: int
    is_more: bool
    has_joins: bool
    results: list[str | None]


class Swept(NamedTuple):
    """One step through what waits. `reached`: the last node looked at; None: there was none."""

    looked: int
    reached: UUID | None
    noted: int


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
        settled.add(await connection.fetchval(self._sql["submit_workflow"], *self._columns(graph, lane_ids)))
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

    async def find_workflows(self, connection: Connection, ids: Iterable[UUID]) -> set[UUID]:
        """Return those of *ids* that are workflows'."""
        rows = await connection.fetch(self._sql["find_workflows"], id_list(ids))
        return {UUID(row["id"]) for row in rows}

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

    def _columns(self, graph: Graph, lane_ids: Mapping[tuple[str, int], int]) -> tuple[str, ...]:
        templates = graph.templates
        if any(template.is_timed for template in templates.values()):
            graph = _without_timed_links(graph)
        number_of = {key: number for number, key in enumerate(templates, 1)}
        jobs = [(node.id, node.job) for node in graph.nodes if node.job is not None]
        ids = [node for node, _ in jobs] + [node.id for node in graph.nodes if node.job is None]
        # Most parts of a large workflow have jobs that wait for nothing, and nobody asks for their places.
        place_of = (
            {node: place for place, node in enumerate(ids, 1)}
            if graph.edges or graph.barriers or graph.callbacks or graph.root is not None
            else {}
        )
        ups, downs, positions, directs = zip(*graph.edges, strict=True) if graph.edges else ((), (), (), ())
        # Those that lead to one node follow each other, and the hash of an id takes longer than all the rest.
        places: list[int] = []
        previous = None
        for node in downs:
            if node is not previous:
                previous, place = node, place_of[node]
            places.append(place)
        gates = {str(node): job.gates for node, job in jobs if job.gates}
        return (
            json.dumps(
                {
                    "id": str(graph.workflow_id),
                    "root": graph.root and place_of[graph.root],
                    "name": graph.name,
                    "parent_job": graph.parent_job and str(graph.parent_job),
                    "waits_for_others": graph.waits_for_others,
                    **({"gates": gates} if gates else {}),
                }
            ),
            id_list(ids),
            self._document(f"[{','.join([job.document for _, job in jobs])}]"),
            _list([number_of[id(job.template)] for _, job in jobs]),
            _list(_traits(graph, len(jobs), place_of, places)),
            json.dumps([_template(template, lane_ids.get(template.lane)) for template in templates.values()]),
            json.dumps([_barrier(barrier, place_of[barrier.id]) for barrier in graph.barriers]),
            id_list(ups),
            _list(places),
            _list(positions),
            f"{{{','.join(['t' if direct else 'f' for direct in directs])}}}",
            json.dumps(
                [
                    {
                        "node": place_of[callback.node_id],
                        "number": callback.number,
                        "on_end": callback.on,
                        "takes_inputs": callback.takes_inputs,
                        "template": number_of[id(callback.job.template)],
                        "arguments": self._document(callback.job.document),
                    }
                    for callback in graph.callbacks
                ]
            ),
        )


def _traits(graph: Graph, jobs: int, place_of: Mapping[UUID, int], downs: Iterable[int]) -> Sequence[int]:
    """Return the traits of the *jobs* at the first places."""
    traits = [LEADS_ON] * len(graph.nodes)
    for place in set(downs):
        traits[place - 1] += WAITS
    for node in {each.node_id for each in graph.callbacks}:
        traits[place_of[node] - 1] += CALLS_BACK
    told = {key for key, template in graph.templates.items() if template.has_webhooks}
    if told:
        for each in graph.nodes:
            if each.job is not None and id(each.job.template) in told:
                traits[place_of[each.id] - 1] += WEBHOOKS
    for node in [each.id for each in graph.nodes if each.takes_inputs]:
        traits[place_of[node] - 1] += TAKES_INPUTS
    if graph.root is not None:
        traits[place_of[graph.root] - 1] -= LEADS_ON
    return traits[:jobs]


def _list(numbers: Iterable[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def _without_timed_links(graph: Graph) -> Graph:
    """Give links that have a time a barrier: a link moves on without a look at the clock."""
    timed = {node.id for node in graph.nodes if node.job is not None and node.job.template.is_timed}
    links = {edge.downstream for edge in graph.edges if edge.direct} & timed
    if not links:
        return graph
    return replace(
        graph,
        edges=[edge._replace(direct=False) if edge.downstream in links else edge for edge in graph.edges],
        barriers=[*graph.barriers, *(Barrier(link, is_join=False, total=1) for link in sorted(links))],
    )


def _barrier(barrier: Barrier, place: int) -> dict[str, Any]:
    return {
        "node": place,
        "needs": barrier.needs,
        "runs_anyway": barrier.runs_anyway,
        "fail_fast": barrier.fail_fast,
    }


def _template(template: Template, lane_id: int | None) -> dict[str, Any]:
    return {
        "queue": template.lane[0],
        "priority": template.lane[1],
        "task": template.task,
        "run_at": template.run_at and template.run_at.isoformat(),
        "delay": template.delay,
        "expires_at": template.expires_at and template.expires_at.isoformat(),
        "expires_after": template.expires_after,
        "options": template.options,
        "headers": template.headers,
        "tags": template.tags,
        "key": template.key,
        "lane": lane_id,
    }
