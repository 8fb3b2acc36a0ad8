"""Bulk operations: what operators do to many jobs at once, in the background. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args
from uuid import UUID

from pgqueue.model.filters import JobFilter
from pgqueue.model.jobs import TERMINAL, JobStatus
from pgqueue.model.operation import OperationProgress

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkProgress(OperationProgress):
    """How far a bulk operation has come."""

    verb: BulkVerb
    chosen: JobFilter | None
    """The jobs that match it; None: they are listed."""
    job_ids: Sequence[UUID] | None
    """The jobs, listed; None: those that match `chosen`."""
    expected: int | None
    """The jobs that a preview counted; None: there was none."""
    found: int
    """The jobs that it has come to. Those that it has not `done` had changed by themselves, or by others."""
    reached: UUID | None
    """The last id that it has looked at; it goes from the newest to the oldest."""

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
