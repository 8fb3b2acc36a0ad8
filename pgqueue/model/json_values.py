"""Which values are JSON's own, so that they come back from it as they were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from math import isfinite
from typing import Any, Final

Column = Sequence[Any]
"""Values that are looked at together."""
MAX_LEVELS: Final = 60
"""Of values that hold values of their own kind. A document of many more cannot be read."""

_JSON: Final = frozenset({str, int, bool, type(None)})


def are_json(column: Column, levels: int = MAX_LEVELS) -> bool:
    """Return whether all values are JSON's own, all through: of its exact types, and finite."""
    while column:
        kinds = set(map(type, column))
        if kinds <= _JSON:
            return True
        if not levels or not kinds <= _JSON | {float, list, dict}:
            return False
        floats = _of_kind(float, kinds, column)
        # One that is not finite shows in the sum; that of large ones is not finite either.
        if not (isfinite(sum(floats)) or all(map(isfinite, floats))):
            return False
        dicts = _of_kind(dict, kinds, column)
        if set(map(type, chain.from_iterable(dicts))) - {str}:
            return False
        column = [*chain.from_iterable(_of_kind(list, kinds, column)), *values_of(dicts)]
        levels -= 1
    return True


def _of_kind(kind: type, kinds: set[type], column: Column) -> Column:
    if kind not in kinds:
        return ()
    return column if len(kinds) == 1 else [each for each in column if type(each) is kind]


def values_of(dicts: Column) -> Iterable[Any]:
    """Return the values in all of *dicts*."""
    return chain.from_iterable(map(dict.values, dicts))
