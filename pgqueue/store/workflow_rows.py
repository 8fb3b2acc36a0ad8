"""What statements on workflows return, as values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


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
