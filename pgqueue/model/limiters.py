"""Limiters as operators read them, and as JSON: what handlers hold, or wait for, in their middle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from pgqueue.model.documents import Id

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    # pydantic, which describes these types, cannot read those of an older `typing`.
    from typing_extensions import TypedDict


@dataclass(frozen=True, slots=True)
class LimiterUse:
    """A limiter that running jobs hold, or wait for."""

    kind: Literal["slots", "bucket", "window"]
    """What it is: a mutex or slots, which are held, or a bucket or window, which count."""
    name: str
    held: int
    """Slots that are held."""
    waiting: int
    """Blocks that wait to be let in."""
    holders: Sequence[UUID]
    """Jobs that hold a slot, 25 at most, those that asked first."""
    waiters: Sequence[UUID]
    """Jobs that wait, 25 at most, in their turn."""
    is_exact: bool
    """Whether all were looked at. Else there may be more."""


class LimiterDocument(TypedDict):
    """A limiter that running jobs hold, or wait for."""

    kind: str
    """slots: a mutex, or several; bucket or window: these count, and are not held."""
    name: str
    held: int
    waiting: int
    holders: list[Id]
    """Jobs that hold a slot, 25 at most, those that asked first."""
    waiters: list[Id]
    """Jobs that wait, 25 at most, in their turn."""
    is_exact: bool
    """Whether all were looked at. Else there may be more."""


def limiter_document(limiter: LimiterUse) -> LimiterDocument:
    """Return a limiter with who holds it, and who waits."""
    return {
        "kind": limiter.kind,
        "name": limiter.name,
        "held": limiter.held,
        "waiting": limiter.waiting,
        "holders": list(map(str, limiter.holders)),
        "waiters": list(map(str, limiter.waiters)),
        "is_exact": limiter.is_exact,
    }
