"""A queue or a task that operators paused or configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Kind = Literal["queue", "task"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A queue or a task that was paused or configured: who changed it, why and when."""

    kind: Kind
    name: str
    paused_at: datetime | None
    """When it was paused. None: it is not paused."""
    options: Mapping[str, Any]
    """A task's options, which override those of its declaration. Durations are in seconds."""
    actor: str | None
    reason: str | None
    changed_at: datetime
