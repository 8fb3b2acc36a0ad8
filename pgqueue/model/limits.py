"""Limits as operators read them: how much is in use, what waits, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pgqueue.model import figures

MOST_OF_KEY: Final = 1000
"""Jobs that are counted of one key."""

MAX_LIMIT_NAME: Final = 300
"""Characters of a limit's name; that of a queue's limit has "queue/" before it."""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit, and how much of it is in use, over all of its keys."""

    name: str
    kind: Literal["slots", "rate", "window"]
    """What is limited, of each key: jobs that run at once, jobs that start per second, or jobs of a tenant
    that are let through to a fair queue and not yet claimed."""
    slots: int | None
    """How many jobs of each key run at once, or stand in its window. None: any number."""
    rate: float | None
    """How many jobs of each key start per second. None: any number, or it is of another kind."""
    burst: int | None
    """How many may start at once after a rest, of a rate."""
    when_full: Literal["wait", "drop", "replace"]
    declared: int | None
    """Its slots as code declared them first. None: no code has, or a rate."""
    declared_rate: float | None
    """Its rate per second as code declared it first. None: no code has, or slots."""
    declared_burst: int | None
    in_use: int
    """Jobs that it has let through and that have not ended."""
    waiting: int
    """Jobs that wait for it."""
    waits_since: datetime | None
    """Since when the first of them has waited, besides those in paused queues. None: none waits."""
    is_exact: bool
    """Whether both numbers are counted, over all of its keys. Large numbers are estimates."""
    edited_at: datetime | None
    """When an operator changed it. None: it is as code declared it first."""
    actor: str | None
    reason: str | None
    changed_at: datetime

    @property
    def allows(self) -> str:
        """What it lets through, in words."""
        if self.kind == "rate":
            return _words(None, self.rate, self.burst)
        if self.kind == "window" and self.slots is not None:
            return f"a window of {self.slots:,}"
        return _words(self.slots, None, None)

    @property
    def declared_words(self) -> str | None:
        """What code declared first, in words; None: no code has."""
        if self.declared is None and self.declared_rate is None:
            return None
        if self.kind == "window" and self.declared is not None:
            return f"a window of {self.declared:,}"
        return _words(self.declared, self.declared_rate, self.declared_burst)

    @property
    def states(self) -> tuple[str, ...]:
        """What an operator is to see at once: "edited", "holds back"."""
        return (
            *(("edited",) if self.edited_at is not None else ()),
            *(("holds back",) if self.waits_since is not None else ()),
        )


@dataclass(frozen=True, slots=True)
class LimitKey:
    """One key of a limit, and how much of it is in use. The key of a limit without keys is empty."""

    key: str
    in_use: int
    """Jobs that it has let through and that have not ended, counted to 1,000."""
    waiting: int
    """Jobs that wait for it, counted to 1,000."""
    waits_since: datetime | None
    """Since when the first of them has waited. None: none waits."""


@dataclass(frozen=True, slots=True)
class LimitKeyPage:
    """Some keys of a limit, and the cursor of the next page."""

    keys: Sequence[LimitKey]
    cursor: str | None
    """None: it is the last page."""


@dataclass(frozen=True, slots=True)
class LimitJobs:
    """The jobs at one key of a limit."""

    holders: Sequence[UUID]
    """Jobs that it has let through and that have not ended, oldest first."""
    waiting: Sequence[UUID]
    """Jobs that wait for it, in their turn."""


def _words(slots: int | None, rate: float | None, burst: int | None) -> str:
    if rate is not None:
        return figures.rate(rate) + ("" if burst is None else f", {burst:,} after a rest")
    return "any number" if slots is None else f"{slots:,} at once"
