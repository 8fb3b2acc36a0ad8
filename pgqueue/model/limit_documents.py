"""How limits look from outside, as JSON: the same over HTTP and on the command line. See `documents`."""

from __future__ import annotations

import math
import sys
from datetime import datetime

from pgqueue.model.documents import Time
from pgqueue.model.limits import LimitKey, LimitUse

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    # pydantic, which describes these types, cannot read those of an older `typing`.
    from typing_extensions import TypedDict


class LimitDocument(TypedDict):
    """A limit, and how much of it is in use, over all of its keys."""

    name: str
    kind: str
    """What is limited, of each key: `slots`, jobs that run at once; `rate`, jobs that start per second; or
    `window`, jobs of a tenant that are let through to a fair queue and not yet claimed."""
    slots: int | None
    """How many jobs of each key run at once, or stand in its window. Null: any number."""
    rate: float | None
    """How many jobs of each key start per second. Null: any number, or it is of another kind."""
    burst: int | None
    """How many may start at once after a rest, of a rate."""
    when_full: str
    """What becomes of a job that it does not let through: wait, drop or replace."""
    declared: int | None
    """Its slots as code declared them first. Null: no code has, or a rate."""
    declared_rate: float | None
    """Its rate per second as code declared it first. Null: no code has, or slots."""
    declared_burst: int | None
    in_use: int
    """Jobs that it has let through and that have not ended."""
    waiting: int
    """Jobs that wait for it."""
    is_exact: bool
    """Whether both numbers are counted; large ones are estimates."""
    waits_since: Time | None
    """Since when the first of them has waited, besides those in paused queues. Null: none waits."""
    edited_at: Time | None
    """When an operator changed it. Null: it is as code declared it first."""
    actor: str | None
    reason: str | None
    changed_at: Time


class LimitKeyDocument(TypedDict):
    """One key of a limit, and how much of it is in use."""

    key: str
    """Empty for a limit without keys."""
    in_use: int
    """Jobs that it has let through and that have not ended, counted to 1,000."""
    waiting: int
    """Jobs that wait for it, counted to 1,000."""
    waits_since: Time | None
    """Since when the first of them has waited. Null: none waits."""


def limit_document(limit: LimitUse) -> LimitDocument:
    """Return a limit with what is in use of it."""
    return {
        "name": limit.name,
        "kind": limit.kind,
        "slots": limit.slots,
        "rate": None if limit.rate is None or not math.isfinite(limit.rate) else limit.rate,
        "burst": limit.burst,
        "when_full": limit.when_full,
        "declared": limit.declared,
        "declared_rate": limit.declared_rate,
        "declared_burst": limit.declared_burst,
        "in_use": limit.in_use,
        "waiting": limit.waiting,
        "is_exact": limit.is_exact,
        "waits_since": _time(limit.waits_since),
        "edited_at": _time(limit.edited_at),
        "actor": limit.actor,
        "reason": limit.reason,
        "changed_at": limit.changed_at.isoformat(),
    }


def limit_key_document(key: LimitKey) -> LimitKeyDocument:
    """Return one key of a limit."""
    return {
        "key": key.key,
        "in_use": key.in_use,
        "waiting": key.waiting,
        "waits_since": _time(key.waits_since),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
