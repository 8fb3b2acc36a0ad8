"""What enqueuers enqueue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIX: Final = {
    "plain": 20, "bulk": 2, "keyed": 3, "delayed": 3, "thread": 3, "once": 4, "money": 4, "stepper": 4,
    "flaky": 4, "ordered": 6, "limited": 4, "chain": 2, "chord": 1, "cancelled": 3, "transaction": 4,
    "isolated": 1, "fragile": 2,
}  # fmt: skip
"""How often each kind of call comes."""

SLOTS: Final = 3
"""How many jobs of the task `limited` run at once, of each key."""

PLAIN: Final = {"plain": 1}
"""Plain jobs alone: for measuring."""


@dataclass(frozen=True)
class Load:
    """What is enqueued: *rate* jobs a second for so many seconds, whose handlers take *longest* at most."""

    rate: float
    seconds: float
    mix: dict[str, int]
    longest: float
    first: int
    """Numbers of jobs begin here: no two enqueuers share one."""
