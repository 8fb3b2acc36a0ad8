"""How far an operation on many jobs has come, whatever it does to them. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationProgress:
    """How far an operation on many jobs has come."""

    id: UUID
    state: Literal["running", "done", "cancelled"]
    done: int
    """The jobs that it has changed."""
    reason: str | None
    actor: str
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state != "running"
