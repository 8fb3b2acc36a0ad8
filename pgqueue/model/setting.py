"""A queue or a task that operators paused or configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Kind = Literal["queue", "task"]


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit, and how much of it is in use, over all of its keys."""

    name: str
    slots: int | None
    """How many jobs of each key run at once. None: any number."""
    when_full: Literal["wait", "drop", "replace"]
    in_use: int
    """Jobs that it has let through and that have not ended, counted to 100,000."""
    waiting: int
    """Jobs that wait for it, counted to 100,000."""
    edited_at: datetime | None
    """When an operator set its slots. None: they are as code declared them first."""
    actor: str | None
    changed_at: datetime


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
