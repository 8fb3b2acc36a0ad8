"""Ordered groups as operators see them, and the keys that stand still."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pgqueue.model.jobs import JobStatus


@dataclass(frozen=True, slots=True)
class OrderedGroup:
    """An ordered group, over all of its keys."""

    name: str
    on_dead: Literal["block", "skip", "halt"]
    """What becomes of the jobs behind one that fails or expires."""
    waiting: int
    """Jobs that wait for their turn."""
    stopped: int
    """Keys that stand still, behind a job that has failed or expired."""
    halted: int
    """Those of them that wait for `PgQueue.resume_key`."""
    is_exact: bool
    """Whether all was counted. Else `waiting` is an estimate, and more keys than that may stand still."""
    edited_at: datetime | None
    """When an operator set `on_dead`. None: it is as code declared it first."""
    actor: str | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class StoppedKey:
    """A key of an ordered group that stands still, and the job that stops it."""

    name: str
    """The group's."""
    key: str
    """As it is stored: a string as it is, anything else as JSON."""
    job_id: UUID
    """The first that stops it, if several do."""
    task: str | None
    status: JobStatus | None
    """What that job is now: one that was redriven in a halted key waits. None: it was deleted by hand."""
    reason: str | None
    """Why that job failed."""
    is_halted: bool
    """Whether it waits for `PgQueue.resume_key`, and not only for a redrive or a discard."""
    stopped_at: datetime
    waiting: int
    """Jobs that wait behind it, counted to 1,000."""
