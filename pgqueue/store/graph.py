"""A workflow as rows to be written: nodes, what they wait for, and what is made when they have ended.

Values only. Ids grow along the edges: a statement that locks jobs by id locks upstream ones first.

What there is for each member is a tuple: tuples are made in C, and frozen dataclasses attribute by attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from pgqueue.store.values import Template


class NewJob(NamedTuple):
    """A job to be written: what `NewJobs.add` takes beside the id. `document`: its arguments, as JSON."""

    template: Template
    document: str
    gates: tuple[tuple[str, str], ...] = ()
    """The names of the limits that it waits for, and its keys."""


class Node(NamedTuple):
    """A node of a workflow. `job` is None for a join: the end of a group, which is no job.

    `takes_inputs`: its handler is given the results of the nodes before it.
    """

    id: UUID
    job: NewJob | None
    takes_inputs: bool = False


@dataclass(frozen=True, slots=True)
class Barrier:
    """When a node that has several nodes before it starts. A join, and every node that is no link, has one.

    `needs`: how many of them must succeed; None: all of them must have ended, and have succeeded unless
    `runs_anyway`. `fail_fast`: the others are cancelled as soon as the node cannot start any more.
    `total`: the number of edges that lead to it.
    """

    id: UUID
    is_join: bool
    total: int
    needs: int | None = None
    runs_anyway: bool = False
    fail_fast: bool = False


class Edge(NamedTuple):
    """`downstream` waits for `upstream`, which may also be a job that exists already.

    `position`: the place of the upstream's result among the inputs, from 0. `direct`: a link of a chain. Both
    ends are jobs of this graph, and `downstream` has no other edge and no barrier.
    """

    upstream: UUID
    downstream: UUID
    position: int
    direct: bool


@dataclass(frozen=True, slots=True)
class Callback:
    """A job that is made when a node has ended: on 'success', on 'error', or in any case ('complete').

    `number`: from 0, unique for the node. `takes_inputs`: its handler is given the outcome of the node, which
    is upstream of it.
    """

    node_id: UUID
    number: int
    on: Literal["error", "complete", "success"]
    job: NewJob
    takes_inputs: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """A workflow, or a part of one, to be written by one statement.

    `root`: the node whose end is the end of the workflow; None: more parts follow, in the same transaction.
    Every node of a workflow but the root has an edge to another one, in this or in a later part.
    `parent_job`: the job that runs it as a child. `waits_for_others`: whether edges may lead from jobs that
    were there before.
    """

    workflow_id: UUID
    root: UUID | None
    name: str | None
    nodes: Sequence[Node]
    barriers: Sequence[Barrier] = ()
    edges: Sequence[Edge] = ()
    callbacks: Sequence[Callback] = ()
    parent_job: UUID | None = None
    waits_for_others: bool = True

    @property
    def lanes(self) -> set[tuple[str, int]]:
        """The lanes of all jobs, by queue and priority."""
        return {template.lane for template in self.templates.values()}

    @property
    def templates(self) -> dict[int, Template]:
        """What its jobs are made from, by the identities of these objects: most jobs share one."""
        templates = [node.job.template for node in self.nodes if node.job is not None]
        templates += [each.job.template for each in self.callbacks]
        return {id(template): template for template in templates}

    def first_jobs(self) -> list[NewJob]:
        """Return the jobs that can run at once."""
        waiting = {edge.downstream for edge in self.edges}
        return [
            node.job
            for node in self.nodes
            if node.job is not None and node.id not in waiting and not node.job.template.is_timed
        ]
