"""The rows of one workflow while they are made: nodes by number, and what leads to them. No I/O.

A node is known by its number, and gets its id with the part of the workflow that it is in: ids grow with the
numbers, so an id is greater than those of all nodes before it.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from pgqueue.errors import InvalidWorkflowError
from pgqueue.model.ids import new_id, new_ids
from pgqueue.store import Barrier, Callback, Edge, Graph, NewJob, Node
from pgqueue.tasks.canvas import MAX_NODES, When, too_many
from pgqueue.tasks.joins import AtLeast, Join

UNREAD: Final = -1
"""The position of an edge whose upstream is only waited for."""

MAX_LENGTH: Final = 256 * 1024 * 1024
"""Characters of arguments in one workflow: one transaction writes them."""


class End(NamedTuple):
    """What a part comes to, for what is behind it: a job, a join, several nodes, or a list that is empty.

    `nodes`: what is waited for. `inputs`: what a job behind it takes (see worker.attempt.inputs), or "" for
    an empty list. `is_join`: whether the one node is a join.
    """

    nodes: tuple[int, ...]
    inputs: str
    is_join: bool = False
    join: Join = "all"
    fail_fast: bool = False


class Rows:
    """The rows of one workflow. `take` returns those that were added since it was called last."""

    def __init__(self, name: str | None) -> None:
        self.workflow_id = new_id()
        self._name = name
        self._ids: list[UUID] = []
        self._length = 0
        self._begin()

    def _begin(self) -> None:
        self._jobs: list[NewJob | None] = []
        self._takes: list[bool] = []
        self._barriers: list[tuple[int, Barrier]] = []
        self._edges: list[tuple[int, int, int, bool]] = []
        self._callbacks: list[tuple[int, Callback]] = []

    def __len__(self) -> int:
        """Count the nodes that were not taken yet."""
        return len(self._jobs)

    def add(self, job: NewJob | None, *, takes_inputs: bool = False) -> int:
        """Add a node, and return its number. Raises InvalidWorkflowError."""
        number = len(self._ids) + len(self._jobs)
        if number == MAX_NODES:
            raise too_many()
        if job is not None:
            self._length += len(job.document)
            if self._length > MAX_LENGTH:
                raise InvalidWorkflowError(
                    f"the arguments of a workflow's jobs can have {MAX_LENGTH:,} characters of JSON in all: "
                    "store the data elsewhere and pass references to it"
                )
        self._jobs.append(job)
        self._takes.append(takes_inputs)
        return number

    def wait(self, node: int, before: End, *, is_join: bool) -> None:
        """Have *node*, which was added last, wait for *before*."""
        nodes = before.nodes
        is_direct = before.inputs == "result" and not before.is_join and not is_join
        if not is_direct and (nodes or is_join):
            needs = None if before.join in {"all", "done"} else _needs(before.join, len(nodes))
            barrier = Barrier(
                _NOBODY,
                is_join,
                len(nodes),
                needs=needs,
                runs_anyway=before.join == "done",
                fail_fast=before.fail_fast,
            )
            self._barriers.append((node, barrier))
        if before.inputs == "":
            self._edges += [(upstream, node, UNREAD, is_direct) for upstream in nodes]
        else:
            self._edges += [(upstream, node, place, is_direct) for place, upstream in enumerate(nodes)]

    def call_back(self, node: int, when: When, job: NewJob, *, takes_inputs: bool) -> None:
        """Have *job* made once *node*, which was not taken yet, has ended."""
        # A part may end where its last part does: what both call back is told apart by the number.
        number = len(self._callbacks)
        self._callbacks.append((node, Callback(_NOBODY, number, when, job, takes_inputs=takes_inputs)))

    def take(self, root: int | None) -> Graph:
        """Return what was added since the last time. *root*: the last node; None: more is to come."""
        first, jobs = len(self._ids), self._jobs
        self._ids += new_ids(len(jobs))
        ids = self._ids
        part = Graph(
            self.workflow_id,
            None if root is None else ids[root],
            self._name,
            list(map(Node, ids[first:], jobs, self._takes)),
            [
                Barrier(
                    ids[node],
                    barrier.is_join,
                    barrier.total,
                    needs=barrier.needs,
                    runs_anyway=barrier.runs_anyway,
                    fail_fast=barrier.fail_fast,
                )
                for node, barrier in self._barriers
            ],
            [Edge(ids[up], ids[down], position, direct) for up, down, position, direct in self._edges],
            [
                Callback(ids[node], each.number, each.on, each.job, each.takes_inputs)
                for node, each in self._callbacks
            ],
            waits_for_others=False,
        )
        self._begin()
        return part


_NOBODY: Final = UUID(int=0)


def _needs(join: Join, total: int) -> int:
    return join.of(total) if isinstance(join, AtLeast) else 1
