"""Bulk operations: what operators do to many jobs at once, in the background. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

from pgqueue.model.filters import JobFilter
from pgqueue.model.jobs import TERMINAL, JobStatus

BulkVerb = Literal["cancel", "requeue", "discard"]
VERBS: Final[Sequence[BulkVerb]] = get_args(BulkVerb)
MAX_IDS: Final = 1000
"""Jobs that one bulk operation can list by id."""

POSSIBLE: Final[Mapping[BulkVerb, frozenset[JobStatus]]] = {
    "cancel": frozenset(JobStatus) - TERMINAL,
    "requeue": TERMINAL,
    "discard": frozenset({JobStatus.FAILED}),
}
"""The statuses of jobs that an operation can change."""
BY_DEFAULT: Final[Mapping[BulkVerb, frozenset[JobStatus]]] = {
    **POSSIBLE,
    "requeue": TERMINAL - {JobStatus.SUCCEEDED},
}
"""Of those, the statuses that it changes where its filter names none."""


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a bulk operation has come."""

    id: UUID
    verb: BulkVerb
    chosen: JobFilter | None
    """The jobs that match it; None: they are listed."""
    job_ids: Sequence[UUID] | None
    """The jobs, listed; None: those that match `chosen`."""
    expected: int | None
    """The jobs that a preview counted; None: there was none."""
    reason: str | None
    actor: str
    state: Literal["running", "done", "cancelled"]
    found: int
    """The jobs that it has come to."""
    done: int
    """The jobs that it has changed. The others had changed by themselves, or by others, meanwhile."""
    reached: UUID | None
    """The last id that it has looked at; it goes from the newest to the oldest."""
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state != "running"

    @property
    def statuses(self) -> frozenset[JobStatus]:
        """The statuses of the jobs that it changes."""
        if self.chosen is None or self.chosen.statuses is None:
            return POSSIBLE[self.verb]
        return self.chosen.statuses


def next_listed(job_ids: Sequence[UUID], reached: UUID | None, limit: int) -> tuple[list[UUID], bool]:
    """Return up to *limit* of *job_ids* behind *reached*, newest first, and whether those are the last."""
    left = sorted({each for each in job_ids if reached is None or each < reached}, reverse=True)
    return left[:limit], len(left) <= limit
