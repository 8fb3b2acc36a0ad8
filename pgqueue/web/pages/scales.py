"""How high charts are: round numbers, and not so high that one spike flattens the rest. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

USUAL: Final = 0.95
"""The share of the values below which a value is usual."""
SPIKE: Final = 4.0
"""How many times higher than a usual value the highest has to be to be clipped."""
LEAST: Final = 1e-300
"""What is less counts as nothing."""
LEAST_VALUES: Final = 10
"""Of fewer values none is clipped: nobody can tell what is usual."""


class Scale(NamedTuple):
    """What stands at the upper edge of a chart, and which values are above it."""

    top: float
    clipped: tuple[int, ...]
    """The places of the values that are clipped."""


def scale(values: Sequence[float | None]) -> Scale:
    """Return the scale of a chart of *values*; None is a gap."""
    known = sorted(value for value in values if value is not None)
    if len(known) >= LEAST_VALUES:
        usual = known[int(USUAL * (len(known) - 1))]
        top = nice_top([usual])
        if usual > 0 and known[-1] > SPIKE * usual:
            return Scale(
                top, tuple(at for at, value in enumerate(values) if value is not None and value > top)
            )
    return Scale(nice_top(known), ())


def nice_top(values: Sequence[float | None]) -> float:
    """Return a round number at or above the largest of *values*: 1, 2 or 5 times a power of ten."""
    highest = max((value for value in values if value is not None), default=0.0)
    # Of the least numbers there are, a power of ten is zero.
    if highest < LEAST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next((power * step for step in (1, 2, 5) if power * step >= highest * 0.999_999), power * 10)
