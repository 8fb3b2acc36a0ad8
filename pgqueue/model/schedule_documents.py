"""How schedules look from outside, as JSON. Arguments are left out: they may hold secrets."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import datetime
from typing import Any

from pgqueue.model.schedules import Schedule, Tick

_SHOWN = tuple(field.name for field in fields(Schedule) if field.name != "arguments")


def schedule_document(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule with what is to come of it. Times are ISO 8601, durations are in seconds."""
    return {name: _plain(getattr(schedule, name)) for name in _SHOWN}


def tick_document(tick: Tick) -> dict[str, Any]:
    """Return one tick of a history."""
    return {field.name: _plain(getattr(tick, field.name)) for field in fields(Tick)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        # A row may hold anything; JSON cannot.
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
