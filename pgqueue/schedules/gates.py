"""The limits that the jobs of a schedule pass: kept with it, because who ticks may not declare its task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from pgqueue.errors import InvalidOptionError
from pgqueue.flow.limits import Gate, Limit, LimitBy, WhenFull, slots_of
from pgqueue.flow.ordering import PREFIX, OnDead, Ordered
from pgqueue.model.checks import shown, text
from pgqueue.model.rates import Rate

_PARTS: Final = 4
_PARTS_OF_RATE: Final = 5


@dataclass(frozen=True, slots=True)
class TickGate:
    """A limit, and the key in it; None: the key is the tick's time."""

    limit: Limit
    key: str | None

    def at(self, tick: datetime) -> Gate:
        """Return what the job of *tick* passes."""
        return self.limit.name, tick.isoformat() if self.key is None else self.key


def tick_gates(
    what: str,
    task: str,
    limits: Sequence[LimitBy],
    documents: tuple[str, str],
    defaults: Mapping[str, object],
    argument: str | None,
) -> list[list[Any]]:
    """Return, as JSON values, the gates of a schedule's jobs: *documents* are the arguments of two ticks.

    Raises InvalidOptionError, InvalidArgumentsError.
    """
    gates = []
    for each in limits:
        (_, first), (_, second) = (
            each.gate(task, {**defaults, **json.loads(document)}) for document in documents
        )
        if first != second and each.key != argument:
            raise InvalidOptionError(
                f"{what}: the key of limit {each.limit.name!r} must not be computed from the tick's time"
            )
        key = first if first == second else None
        rule = each.limit.on_dead if isinstance(each.limit, Ordered) else each.limit.when_full
        stored = [each.limit.name, key, each.limit.slots, rule]
        rate = each.limit.rate
        gates.append(stored if rate is None else [*stored, [rate.per_second, rate.at_once]])
    return gates


def stored_gates(template: str) -> list[TickGate]:
    """Read back the gates of a schedule's stored template. Raises InvalidOptionError, ValueError."""
    gates = []
    for row in json.loads(template).get("gates") or ():
        if not isinstance(row, list) or not _PARTS <= len(row) <= _PARTS_OF_RATE:
            raise InvalidOptionError(f"the stored limit is {shown(row)}")
        name, key, slots, rule = row[:_PARTS]
        name = text("the stored limit", name, longest=300)
        is_ordered = name.startswith(PREFIX)
        if rule not in get_args(OnDead if is_ordered else WhenFull) or not (
            key is None or isinstance(key, str)
        ):
            raise InvalidOptionError(f"the stored limit is {shown(row)}")
        if len(row) > _PARTS:
            limit = Limit(name, None, rule, _stored_rate(row[_PARTS]))
        else:
            slots = slots_of("the stored limit", slots)
            limit = Ordered(name, slots, on_dead=rule) if is_ordered else Limit(name, slots, rule)
        gates.append(TickGate(limit, key))
    return gates


def _stored_rate(stored: object) -> Rate:
    if not isinstance(stored, list) or len(stored) != len(("per second", "burst")):
        raise InvalidOptionError(f"the stored rate is {shown(stored)}")
    per_second, burst = stored
    return Rate(per_second, burst=burst)
